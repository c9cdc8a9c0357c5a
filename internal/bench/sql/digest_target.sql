-- The same of the bridge's tables, without the rows that it keeps after their
-- deletion at the source.
SELECT 'contacts', count(*)::text, sum(hashtextextended(concat_ws('|', id, provedor_id, name, phone, updated_at), 0)::numeric)::text
FROM public.contacts
UNION ALL
SELECT 'conversations', count(*)::text, sum(hashtextextended(concat_ws('|', id, provedor_id, contact_id, inbox_id, status, updated_at), 0)::numeric)::text
FROM public.conversations
UNION ALL
SELECT 'messages', count(*)::text, sum(hashtextextended(concat_ws('|', m.id, m.provedor_id, m.conversation_id, m.contact_id, m.content, m.is_from_customer, m.external_id, m.additional_attributes, m.created_at), 0)::numeric)::text
FROM public.messages AS m
WHERE NOT EXISTS (SELECT FROM walbridge.deleted AS d WHERE d."table" = 'public.messages' AND d.key = m.id::text)
