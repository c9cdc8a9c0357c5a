-- Row counts and sums of hashes over what both sides have, one row a table.
SELECT 'contacts', count(*)::text, sum(hashtextextended(concat_ws('|', id, provedor_id, name, phone, updated_at), 0)::numeric)::text
FROM conversations_contact
UNION ALL
SELECT 'conversations', count(*)::text, sum(hashtextextended(concat_ws('|', v.id, coalesce(i.provedor_id, k.provedor_id), v.contact_id, v.inbox_id, v.status, v.updated_at), 0)::numeric)::text
FROM conversations_conversation AS v
JOIN conversations_inbox AS i ON i.id = v.inbox_id
JOIN conversations_contact AS k ON k.id = v.contact_id
UNION ALL
SELECT 'messages', count(*)::text, sum(hashtextextended(concat_ws('|', m.id, coalesce(i.provedor_id, k.provedor_id), m.conversation_id, v.contact_id, m.content, m.is_from_customer, m.external_id, m.additional_attributes, m.created_at), 0)::numeric)::text
FROM conversations_message AS m
JOIN conversations_conversation AS v ON v.id = m.conversation_id
JOIN conversations_inbox AS i ON i.id = v.inbox_id
JOIN conversations_contact AS k ON k.id = v.contact_id
