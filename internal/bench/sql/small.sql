-- Small transactions: a message and its conversation, as one HTTP request of the
-- application writes them.
DO $$
DECLARE
	seeded int := current_setting('bench.messages');
	conversations int := current_setting('bench.conversations');
	active int := current_setting('bench.active');
	c int;
BEGIN
	FOR i IN 1 .. current_setting('bench.load')::int LOOP
		c := bench.conversation(i, conversations, active);
		INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, external_id, is_from_customer, updated_at)
		VALUES (seeded + i, 'text', 'Mensagem ' || md5(i::text) || ' ' || md5((i + 1)::text), clock_timestamp(),
		        c, '{"source": "whatsapp"}', 'wamid.' || seeded + i, i % 2 = 0, clock_timestamp());
		UPDATE conversations_conversation SET last_message_at = clock_timestamp(), updated_at = clock_timestamp() WHERE id = c;
		COMMIT;
	END LOOP;
END $$
