"""Tenants, users and the application's audit log.

The tables are made by SQL, not by migrations of this project, because they are
to be exactly those that years of the application's migrations have left: column
order, dropped columns, identity keys (which Django makes only since 4.1).
"""
from django.db import models


class Provedor(models.Model):
    nome = models.CharField(max_length=200)
    redes_sociais = models.JSONField(null=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        managed = False
        db_table = "core_provedor"


class User(models.Model):
    password = models.CharField(max_length=128, default="!")
    is_superuser = models.BooleanField(default=False)
    username = models.CharField(max_length=150, unique=True)
    first_name = models.CharField(max_length=150, default="")
    last_name = models.CharField(max_length=150, default="")
    email = models.CharField(max_length=254, default="")
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField(auto_now_add=True)
    user_type = models.CharField(max_length=20, default="agent")
    is_online = models.BooleanField(default=False)
    last_seen = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    permissions = models.JSONField(default=list)
    new_conversation_sound = models.CharField(max_length=200, default="")
    new_message_sound = models.CharField(max_length=200, default="")
    sound_notifications_enabled = models.BooleanField(default=True)
    session_timeout = models.IntegerField(default=30)

    class Meta:
        managed = False
        db_table = "core_user"


class AuditLog(models.Model):
    action = models.CharField(max_length=50)
    timestamp = models.DateTimeField(auto_now_add=True)
    ip_address = models.GenericIPAddressField(null=True)
    details = models.TextField()
    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    provedor = models.ForeignKey(Provedor, null=True, on_delete=models.CASCADE)
    channel_type = models.CharField(max_length=50, null=True)
    contact_name = models.CharField(max_length=255, null=True)
    conversation_id = models.CharField(max_length=100, null=True)
    csat_rating = models.IntegerField(null=True)
    user_agent = models.TextField(null=True)

    class Meta:
        managed = False
        db_table = "core_auditlog"
