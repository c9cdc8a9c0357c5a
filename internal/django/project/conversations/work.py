"""What the application's views, webhooks and jobs do to its models.

Each function is one request: it takes the worker, does its ORM calls and returns
nothing. A request that the database refuses ends in an exception and has no
effect beyond what it had committed before, as it would behind a web server.
"""
import uuid
from datetime import timedelta

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from core.models import AuditLog, Provedor, User

from .models import Contact, Conversation, CSATFeedback, CSATRequest, Inbox, Message, Team

TEXTS = [
    "Bom dia! Minha internet caiu de novo 😤",
    "quero a 2ª via do boleto, por favor",
    "não entendi\nveio \"multa\" e juros\ttudo junto?",
    "o arquivo está em C:\\boletos\\n.pdf",
    "", " ", "\\N", "NULL", "obrigado!! 🙏🏽",
]


class Nothing(Exception):
    """There is nothing to do this to."""


class Undo(Exception):
    """Takes an atomic block back."""


class Worker:
    """One thread of the application: a source of chance and what it remembers."""

    def __init__(self, rng):
        self.rng = rng
        # Instances that were loaded some time ago: saving one writes old values
        # back, or inserts the row again if it has vanished.
        self.stale = []

    def text(self):
        if self.rng.randrange(30) == 0:
            return (self.rng.choice(TEXTS) + "\n") * 200
        return self.rng.choice(TEXTS)

    def attributes(self):
        return {"origem": self.rng.choice(["whatsapp", "telegram"]), "nome": "Conceição d'Ávila", "n": self.rng.random(),
                "nulo": None, "lista": [1, 2.50, {"á": "\u0001"}], "grande": 12345678901234567890}

    def large(self):
        return {"webhook": self.rng.getrandbits(8 * self.rng.randrange(10_000, 40_000)).to_bytes(40_000, "big").hex()}

    def phone(self):
        return "+55009%09d" % self.rng.randrange(10**9)

    def some(self, queryset):
        """A row by chance, without sorting the table."""
        last = queryset.order_by("-id").values_list("id", flat=True).first()
        if last is None:
            raise Nothing
        row = queryset.filter(id__gte=self.rng.randint(max(1, last - 400), last)).order_by("id").first()
        if row is None:  # it vanished meanwhile
            raise Nothing
        return row

    def remember(self, instance):
        self.stale.append(instance)
        del self.stale[:-30]


def inbound(w):
    conversation = w.some(Conversation.objects.exclude(status="closed"))
    w.remember(Message.objects.create(conversation=conversation, content=w.text(), external_id=uuid.UUID(int=w.rng.getrandbits(128)).hex,
                                      additional_attributes=w.attributes()))


def reply(w):
    conversation = w.some(Conversation.objects.select_related("contact"))
    Message.objects.create(conversation=conversation, content=w.text(), is_from_customer=False)
    conversation.save()
    w.remember(conversation)


def open_conversation(w):
    inbox = w.some(Inbox.objects.all())
    contact, _ = Contact.objects.get_or_create(phone=w.phone()[:12] + str(w.rng.randrange(50)), provedor=inbox.provedor,
                                               defaults={"name": "Zélia Gonçalves", "additional_attributes": w.attributes()})
    conversation = Conversation.objects.create(inbox=inbox, contact=contact, additional_attributes=w.attributes())
    Message.objects.create(conversation=conversation, content=w.text())
    w.remember(conversation)
    w.remember(contact)


def save_unchanged(w):
    w.some(w.rng.choice([Conversation, Message, Contact, Inbox]).objects.all()).save()


def save_some_fields(w):
    conversation = w.some(Conversation.objects.all())
    conversation.status = w.rng.choice(["open", "pending", "snoozed", "closed", "resolved"])
    conversation.save(update_fields=["status"])


def assign(w):
    conversation = w.some(Conversation.objects.all())
    conversation.assignee = w.some(User.objects.all())
    conversation.additional_attributes["assigned_user"] = conversation.assignee_id
    conversation.save()
    AuditLog.objects.create(action="conversation_assigned", details="Conversa atribuída", user=conversation.assignee,
                            provedor=conversation.inbox.provedor, conversation_id=str(conversation.id), ip_address="203.0.113.7")


def transfer(w):
    with transaction.atomic():
        conversation = Conversation.objects.select_for_update().get(pk=w.some(Conversation.objects.all()).pk)
        conversation.team = w.some(Team.objects.all())
        conversation.additional_attributes["transfer_reason"] = w.text()
        conversation.save()


def close(w):
    with transaction.atomic():
        conversation = Conversation.objects.select_for_update().get(pk=w.some(Conversation.objects.exclude(status="closed")).pk)
        conversation.status = "closed"
        conversation.save()
        now = timezone.now()
        CSATRequest.objects.create(conversation=conversation, contact=conversation.contact, provedor=w.some(Provedor.objects.all()),
                                   conversation_ended_at=now, scheduled_send_at=now + timedelta(minutes=3))
    AuditLog.objects.create(action="conversation_closed_agent", details='{"resolution_type": "fim"}',
                            provedor=conversation.inbox.provedor, conversation_id=str(conversation.id))
    w.remember(conversation)


def answer_csat(w):
    request = w.some(CSATRequest.objects.filter(status="pending"))
    with transaction.atomic():
        rating = w.rng.randint(1, 5)
        request.csat_feedback = CSATFeedback.objects.create(
            emoji_rating="😡😕😐🙂🤩"[rating - 1], rating_value=rating, conversation_ended_at=request.conversation_ended_at,
            original_message=w.text(), contact=request.contact, conversation=request.conversation, provedor=request.provedor)
        request.status, request.responded_at = "completed", timezone.now()
        request.save()
    request.conversation.save()


def change_csat(w):
    CSATFeedback.objects.filter(id=w.some(CSATFeedback.objects.all()).id).update(
        response_time_minutes=F("response_time_minutes") + 1, rating_value=w.rng.randint(1, 5))


def edit_message(w):
    message = w.some(Message.objects.all())
    message.additional_attributes["edited"] = True
    message.additional_attributes["previous"] = message.content
    message.save(update_fields=["additional_attributes"])
    w.remember(message)


def queryset_update(w):
    conversation = w.some(Conversation.objects.all())
    Message.objects.filter(conversation=conversation).update(additional_attributes={"lida": True})
    Contact.objects.filter(pk=conversation.contact_id).update(name="Otávio de Sá", avatar=None)


def bulk_update(w):
    messages = list(Message.objects.filter(conversation=w.some(Conversation.objects.all()))[:20])
    for message in messages:
        message.content = w.text()
    Message.objects.bulk_update(messages, ["content"])


def bulk_create(w):
    inbox = w.some(Inbox.objects.all())
    with transaction.atomic():
        contacts = Contact.objects.bulk_create(
            Contact(name="Importado %d" % i, phone=w.phone(), provedor=inbox.provedor) for i in range(w.rng.randint(5, 60)))
        conversations = Conversation.objects.bulk_create(
            Conversation(contact=c, inbox=inbox, status="closed") for c in contacts)
        Message.objects.bulk_create(
            (Message(conversation=c, content=w.text(), additional_attributes=w.attributes()) for c in conversations for _ in range(3)),
            batch_size=50)


def large_value(w):
    instance = w.some(w.rng.choice([Message, Conversation, Contact]).objects.all())
    instance.additional_attributes = w.large()
    instance.save()
    # The large value doesn't travel with these.
    type(instance).objects.filter(pk=instance.pk).update(updated_at=timezone.now())
    instance.save(update_fields=["updated_at"])


def audit(w):
    provedor = w.some(Provedor.objects.all()) if w.rng.randrange(4) else None
    AuditLog.objects.create(action=w.rng.choice(["login", "logout", "edit"]), details=w.text(), provedor=provedor,
                            ip_address="2001:db8::1", user_agent="Mozilla/5.0")


def delete_message(w):
    message = w.some(Message.objects.all())
    w.remember(Message.objects.get(pk=message.pk))
    message.delete()


def purge(w):
    Message.objects.filter(conversation=w.some(Conversation.objects.filter(status="closed"))).delete()


def delete_conversation(w):
    conversation = w.some(Conversation.objects.all())
    w.remember(Conversation.objects.get(pk=conversation.pk))
    conversation.delete()


def delete_contact(w):
    w.some(Contact.objects.all()).delete()


def delete_inbox(w):
    inbox = w.some(Inbox.objects.all())
    Inbox.objects.create(name="Canal novo", channel_type="webchat", provedor=inbox.provedor)
    if inbox.conversation_set.count() < 100:
        inbox.delete()


def delete_user(w):
    """SET_NULL: conversations lose their assignee without being saved."""
    user = User.objects.create(username=uuid.UUID(int=w.rng.getrandbits(128)).hex)
    Conversation.objects.filter(id__in=[w.some(Conversation.objects.all()).id for _ in range(3)]).update(assignee=user)
    user.delete()


def save_stale(w):
    """An instance from a while ago is saved: old values return, or a vanished row."""
    if not w.stale:
        raise Nothing
    w.rng.choice(w.stale).save()


def rolled_back_savepoint(w):
    conversation = w.some(Conversation.objects.all())
    with transaction.atomic():
        Message.objects.create(conversation=conversation, content="antes")
        for keep in (False, True):
            try:
                with transaction.atomic():
                    Message.objects.create(conversation=conversation, content="dentro")
                    conversation.inbox.provedor = w.some(Provedor.objects.all())
                    conversation.inbox.save()
                    with transaction.atomic():
                        conversation.status = "open"
                        conversation.save()
                    if not keep:
                        raise Undo
            except Undo:
                conversation = Conversation.objects.get(pk=conversation.pk)
        Message.objects.create(conversation=conversation, content="depois")


def rolled_back(w):
    conversation = w.some(Conversation.objects.all())
    try:
        with transaction.atomic():
            Message.objects.create(conversation=conversation, content="nunca")
            Inbox.objects.filter(pk=conversation.inbox_id).update(provedor=None)
            conversation.delete()
            raise Undo
    except Undo:
        pass


def child_first(w):
    with transaction.atomic():
        ids = {}
        with connection.cursor() as cursor:
            for model in (Inbox, Contact, Conversation):
                cursor.execute("SELECT nextval(pg_get_serial_sequence(%s, 'id'))", [model._meta.db_table])
                ids[model] = cursor.fetchone()[0]
        Message.objects.create(conversation_id=ids[Conversation], content="primeiro o filho")
        Conversation(id=ids[Conversation], contact_id=ids[Contact], inbox_id=ids[Inbox], status="open").save(force_insert=True)
        Contact(id=ids[Contact], name="Depois", phone=w.phone(), provedor=w.some(Provedor.objects.all())).save(force_insert=True)
        Inbox(id=ids[Inbox], name="Por último", channel_type="email", provedor=w.some(Provedor.objects.all())).save(force_insert=True)


def move_inbox(w):
    inbox = w.some(Inbox.objects.all())
    inbox.provedor = w.some(Provedor.objects.all())
    inbox.save()


def move_contact(w):
    contact = w.some(Contact.objects.all())
    contact.provedor = w.some(Provedor.objects.all()) if w.rng.randrange(5) else None
    contact.save(update_fields=["provedor"])


def move_conversation(w):
    conversation = w.some(Conversation.objects.all())
    conversation.inbox = w.some(Inbox.objects.all())
    conversation.contact = w.some(Contact.objects.all())
    conversation.save()


def move_message(w):
    message = w.some(Message.objects.all())
    message.conversation = w.some(Conversation.objects.all())
    message.save()


def lose_tenant(w):
    inbox = w.some(Inbox.objects.all())
    with transaction.atomic():
        Inbox.objects.filter(pk=inbox.pk).update(provedor=None)
        Contact.objects.filter(conversation__inbox=inbox).update(provedor=None)


def gain_tenant(w):
    queryset = w.rng.choice([Inbox, Contact]).objects.filter(provedor=None)
    instance = w.some(queryset)
    instance.provedor = w.some(Provedor.objects.all())
    instance.save()


def update_or_create(w):
    conversation = w.some(Conversation.objects.all())
    Message.objects.update_or_create(conversation=conversation, external_id="unico-%d" % conversation.id,
                                     defaults={"content": w.text(), "file_size": w.rng.getrandbits(40)})


# Every request with how often it comes in.
REQUESTS = [
    (inbound, 200), (reply, 120), (open_conversation, 60), (save_unchanged, 80), (save_some_fields, 40), (assign, 40),
    (transfer, 20), (close, 40), (answer_csat, 24), (change_csat, 8), (edit_message, 40), (queryset_update, 20),
    (bulk_update, 8), (bulk_create, 3), (large_value, 8), (audit, 30), (delete_message, 10), (purge, 6),
    (delete_conversation, 6), (delete_contact, 3), (delete_inbox, 4), (delete_user, 2), (save_stale, 20),
    (rolled_back_savepoint, 10), (rolled_back, 6), (child_first, 8), (move_inbox, 6), (move_contact, 8),
    (move_conversation, 8), (move_message, 6), (lose_tenant, 4), (gain_tenant, 8), (update_or_create, 10),
]
