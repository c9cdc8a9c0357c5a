"""Does what a shop does, through the ORM, by a seed."""
import datetime
import random

from django.core.management.base import BaseCommand
from django.db import transaction

from orders.models import Currency, Customer, Line, Order, Shop


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("--seed", type=int, required=True)
        parser.add_argument("--steps", type=int, required=True)

    def handle(self, seed, steps, **options):
        rng = random.Random(seed)
        shops = [Shop.objects.get_or_create(name=name)[0] for name in ("north", "south")]
        Currency.objects.get_or_create(code="BRL")
        for _ in range(steps):
            getattr(self, rng.choice(["order", "order", "order", "ship", "move", "join", "leave"]))(rng, shops)

    def customer(self, rng):
        ids = list(Customer.objects.values_list("id", flat=True))
        return Customer.objects.get(id=rng.choice(ids)) if ids else None

    def join(self, rng, shops):
        Customer.objects.create(shop=rng.choice(shops + [None]), full_name="Zoë", tags=["a,b", '"', ""])

    @transaction.atomic
    def order(self, rng, shops):
        customer = self.customer(rng) or Customer.objects.create(shop=shops[0], full_name="Ana")
        order = Order.objects.create(customer=customer, notes={"n": [1, None, "ç"]})
        for n in range(rng.randint(1, 4)):
            Line.objects.create(
                order=order, article="a%d" % n, pieces=n, weight=rng.choice([None, 0.1]), lead_time=datetime.timedelta(hours=n * 30)
            )
        order.total = rng.randint(0, 9999) / 100
        order.save()

    def ship(self, rng, shops):
        Order.objects.filter(status="new", customer=self.customer(rng)).update(status="shipped")

    def move(self, rng, shops):
        customer = self.customer(rng)
        if customer:
            customer.shop = rng.choice(shops + [None])
            customer.save()

    def leave(self, rng, shops):
        if rng.random() < 0.2 and self.customer(rng):
            self.customer(rng).delete()
