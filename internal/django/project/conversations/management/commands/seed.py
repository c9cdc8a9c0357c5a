"""manage.py seed: what the application has before its first request."""
from django.core.management.base import BaseCommand
from django.db import transaction

from conversations.models import Contact, Conversation, Inbox, Message, Team
from core.models import Provedor, User

TENANTS = ["Fibra Boa Vista", "Conecta Açaí", "Rede São João"]


class Command(BaseCommand):
    help = "Makes tenants with users, inboxes, contacts and conversations, where there are none yet."

    @transaction.atomic
    def handle(self, *args, **options):
        if Provedor.objects.exists():
            return
        for n, name in enumerate(TENANTS):
            provedor = Provedor.objects.create(nome=name)
            User.objects.create(username="atendente%d" % n, first_name="Zélia")
            Team.objects.create(name="Suporte", provedor=provedor)
            for channel in ("whatsapp", "webchat"):
                inbox = Inbox.objects.create(name=channel.title(), channel_type=channel, provedor=provedor)
                for i in range(5):
                    contact = Contact.objects.create(name="Otávio %d" % i, phone="+55%s%d%d" % (channel[:2], n, i), provedor=provedor)
                    conversation = Conversation.objects.create(inbox=inbox, contact=contact, status="open")
                    Message.objects.create(conversation=conversation, content="Bom dia!")
        Inbox.objects.create(name="Sem provedor", channel_type="telegram")
