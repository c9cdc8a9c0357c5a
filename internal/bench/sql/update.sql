-- The move, done at the target by hand.
UPDATE conversations AS c SET provedor_id = 2 WHERE c.inbox_id = 1;
UPDATE messages AS m SET provedor_id = 2 FROM conversations AS c WHERE c.id = m.conversation_id AND c.inbox_id = 1;
