"""Channels, contacts, conversations, messages and what customers thought."""
from django.db import models

from core.models import Provedor, User


class Inbox(models.Model):
    name = models.CharField(max_length=255)
    channel_type = models.CharField(max_length=50)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    provedor = models.ForeignKey(Provedor, null=True, on_delete=models.CASCADE)
    additional_attributes = models.JSONField(default=dict)
    channel_id = models.CharField(max_length=255, default="default")

    class Meta:
        managed = False
        db_table = "conversations_inbox"


class Contact(models.Model):
    name = models.CharField(max_length=255)
    email = models.EmailField(null=True)
    phone = models.CharField(max_length=20)
    additional_attributes = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    provedor = models.ForeignKey(Provedor, null=True, on_delete=models.CASCADE)
    avatar = models.URLField(null=True)

    class Meta:
        managed = False
        db_table = "conversations_contact"
        unique_together = ["phone", "provedor"]


class Team(models.Model):
    name = models.CharField(max_length=255)
    description = models.TextField(default="")
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    provedor = models.ForeignKey(Provedor, null=True, on_delete=models.CASCADE)

    class Meta:
        managed = False
        db_table = "conversations_team"


class Conversation(models.Model):
    status = models.CharField(max_length=20, default="snoozed")
    additional_attributes = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    assignee = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE)
    inbox = models.ForeignKey(Inbox, on_delete=models.CASCADE)
    last_message_at = models.DateTimeField(null=True)
    team = models.ForeignKey(Team, null=True, on_delete=models.SET_NULL)

    class Meta:
        managed = False
        db_table = "conversations_conversation"


class Message(models.Model):
    message_type = models.CharField(max_length=20, default="text")
    content = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE)
    additional_attributes = models.JSONField(default=dict)
    external_id = models.CharField(max_length=255, null=True)
    is_from_customer = models.BooleanField(default=True)
    updated_at = models.DateTimeField(auto_now=True)
    file_name = models.CharField(max_length=255, null=True)
    file_size = models.BigIntegerField(null=True)
    file_url = models.URLField(null=True)

    class Meta:
        managed = False
        db_table = "conversations_message"


class CSATFeedback(models.Model):
    emoji_rating = models.CharField(max_length=10)
    rating_value = models.IntegerField()
    channel_type = models.CharField(max_length=20, default="whatsapp")
    feedback_sent_at = models.DateTimeField(auto_now_add=True)
    conversation_ended_at = models.DateTimeField()
    response_time_minutes = models.IntegerField(default=0)
    original_message = models.TextField(null=True)
    additional_data = models.JSONField(default=dict)
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE)
    provedor = models.ForeignKey(Provedor, on_delete=models.CASCADE)

    class Meta:
        managed = False
        db_table = "csat_feedbacks"


class CSATRequest(models.Model):
    status = models.CharField(max_length=20, default="pending")
    conversation_ended_at = models.DateTimeField()
    scheduled_send_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    responded_at = models.DateTimeField(null=True)
    channel_type = models.CharField(max_length=20, default="whatsapp")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE)
    csat_feedback = models.OneToOneField(CSATFeedback, null=True, on_delete=models.CASCADE)
    provedor = models.ForeignKey(Provedor, on_delete=models.CASCADE)

    class Meta:
        managed = False
        db_table = "csat_requests"
