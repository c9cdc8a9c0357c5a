-- One transaction of messages.
INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, external_id, is_from_customer, updated_at)
SELECT current_setting('bench.messages')::int + i, 'text', 'Mensagem ' || md5(i::text) || ' ' || md5((i + 1)::text), clock_timestamp(),
       bench.conversation(i, current_setting('bench.conversations')::int, current_setting('bench.active')::int), '{"source": "whatsapp"}', 'wamid.' || i, i % 2 = 0, clock_timestamp()
FROM generate_series(1, current_setting('bench.load')::int) AS i
