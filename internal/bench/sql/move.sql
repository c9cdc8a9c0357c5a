-- One row: all conversations of the inbox and their messages follow it.
UPDATE conversations_inbox SET provedor_id = 2, updated_at = clock_timestamp() WHERE id = 1
