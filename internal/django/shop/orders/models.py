import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models


class Shop(models.Model):
    name = models.CharField(max_length=80)


class Membership(models.Model):
    shop = models.ForeignKey(Shop, models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    role = models.CharField(max_length=20)


class Customer(models.Model):
    shop = models.ForeignKey(Shop, models.CASCADE, null=True)
    full_name = models.CharField(max_length=120)
    tags = ArrayField(models.CharField(max_length=20), default=list)


class Order(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = models.ForeignKey(Customer, models.CASCADE)
    status = models.CharField(max_length=12, default="new")
    total = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    placed_at = models.DateTimeField(auto_now_add=True)
    notes = models.JSONField(default=dict)


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)
    article = models.CharField(max_length=40)
    pieces = models.PositiveIntegerField()
    weight = models.FloatField(null=True)
    lead_time = models.DurationField(null=True)


class Currency(models.Model):
    """Belongs to nobody."""

    code = models.CharField(max_length=3, primary_key=True)
