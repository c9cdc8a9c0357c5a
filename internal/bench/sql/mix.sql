-- Transactions of two changes each, of which 70 in 100 insert a message, 20
-- update a conversation, 5 a contact, and 5 delete a message. No change leaves
-- everything as it was, so each of them makes an audit entry.
DO $$
DECLARE
	seeded int := current_setting('bench.messages');
	conversations int := current_setting('bench.conversations');
	active int := current_setting('bench.active');
	contacts int := current_setting('bench.contacts');
	inserted int := 0;
	deleted int := 0;
	r int;
BEGIN
	PERFORM setseed(0.5);
	FOR i IN 1 .. current_setting('bench.load')::int * 2 LOOP
		r := floor(random() * 100);
		IF r < 70 OR r >= 95 AND deleted >= seeded THEN
			inserted := inserted + 1;
			INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, external_id, is_from_customer, updated_at)
			VALUES (seeded + inserted, 'text', 'Mensagem ' || md5(i::text) || ' ' || md5((i + 1)::text), clock_timestamp(),
			        bench.conversation(i, conversations, active), '{"source": "whatsapp"}', 'wamid.' || seeded + inserted, i % 2 = 0, clock_timestamp());
		ELSIF r < 90 THEN
			UPDATE conversations_conversation SET updated_at = clock_timestamp(), last_message_at = clock_timestamp(),
			       status = (ARRAY['open', 'pending', 'closed'])[1 + floor(random() * 3)::int]
			WHERE id = bench.conversation(i, conversations, active);
		ELSIF r < 95 THEN
			UPDATE conversations_contact SET name = 'Contact ' || i, updated_at = clock_timestamp()
			WHERE id = 1 + (i::bigint * 7919) % contacts;
		ELSE
			deleted := deleted + 1;
			DELETE FROM conversations_message WHERE id = deleted;
		END IF;
		IF i % 2 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END $$
