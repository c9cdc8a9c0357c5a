-- What is there before the load. Settings: bench.inboxes, bench.contacts,
-- bench.conversations, bench.messages, bench.active. Identifiers are dense from 1,
-- so that the load can name rows without looking them up.

-- The conversation of message i, of n conversations. As in a chat, some of them
-- are talked in at a time: that many, through which the window moves on by one
-- conversation with every ten messages.
CREATE SCHEMA bench;
CREATE FUNCTION bench.conversation(i bigint, n bigint, active bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN 1 + (i / 10 + i * 7919 % least(active, n)) % n;

INSERT INTO core_provedor (id, nome, is_active, created_at, updated_at)
SELECT i, 'Provedor ' || i, true, now(), now() FROM generate_series(1, 2) AS i;

INSERT INTO conversations_inbox (id, name, channel_type, is_active, created_at, updated_at, provedor_id, additional_attributes, channel_id)
SELECT i, 'Inbox ' || i, 'whatsapp', true, now(), now(), 1 + (i - 1) % 2, '{}', 'channel-' || i
FROM generate_series(1, current_setting('bench.inboxes')::int) AS i;

INSERT INTO conversations_contact (id, name, phone, additional_attributes, created_at, updated_at, provedor_id)
SELECT i, 'Contact ' || i, '+55' || lpad(i::text, 11, '0'), '{"origin": "whatsapp"}', now(), now(), 1 + i % 2
FROM generate_series(1, current_setting('bench.contacts')::int) AS i;

INSERT INTO conversations_conversation (id, status, additional_attributes, created_at, updated_at, contact_id, inbox_id, last_message_at)
SELECT i, 'open', '{}', now(), now(), 1 + i % current_setting('bench.contacts')::int, 1 + i % current_setting('bench.inboxes')::int, now()
FROM generate_series(1, current_setting('bench.conversations')::int) AS i;

INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, external_id, is_from_customer, updated_at)
SELECT i, 'text', 'Mensagem ' || md5(i::text) || ' ' || md5((i + 1)::text), now(),
       bench.conversation(i, current_setting('bench.conversations')::int, current_setting('bench.active')::int), '{"source": "whatsapp"}', 'wamid.' || i, i % 2 = 0, now()
FROM generate_series(1, current_setting('bench.messages')::int) AS i;

-- Without statistics neither side's first queries are those of a database in use.
ANALYZE;
