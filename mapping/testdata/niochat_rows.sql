-- Rows for the view of NioChat: tenants over both paths, one that is missing,
-- and values that conversions change.
INSERT INTO core_provedor (id, nome) VALUES (7, 'seven'), (8, 'eight');
INSERT INTO core_user (id, username) VALUES (3, 'ana');
INSERT INTO conversations_inbox (id, name, channel_type, provedor_id) VALUES (1, 'a', 'whatsapp', 7), (2, 'b', 'email', NULL);
INSERT INTO conversations_contact (id, name, phone, additional_attributes, created_at, updated_at, provedor_id, avatar) VALUES
  (10, 'Ana', '55', '{"b": 1, "a": 2}', '2024-01-01', '2024-01-02', 8, 'a.png'),
  (11, 'Bo', '', '{}', '2024-01-01', '2024-01-02', NULL, NULL);
INSERT INTO conversations_conversation (id, status, additional_attributes, created_at, updated_at, assignee_id, contact_id, inbox_id) VALUES
  (20, 'open', '{}', '2024-01-01', '2024-01-05', 3, 10, 1),
  (21, 'closed', '{}', '2024-01-01', '2024-01-05', NULL, 10, 2),
  (22, 'ended', '{}', '2024-01-01', '2024-01-05', NULL, 11, 2),
  (23, 'closed', '{}', '2024-01-01', '2024-01-05', NULL, 10, 1);
INSERT INTO csat_requests (status, conversation_ended_at, conversation_id, provedor_id) VALUES
  ('sent', '2024-01-03', 23, 7), ('sent', '2024-01-04', 23, 7), ('sent', '2024-01-04', 20, 7);
INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at) VALUES
  (30, 'text', 'oi', '2024-01-01', 20, '{}', true, '2024-01-01'),
  (31, 'text', '', '2024-01-01', 21, '{}', false, '2024-01-01'),
  (32, 'text', 'x', '2024-01-01', 22, '{}', false, '2024-01-01');
INSERT INTO csat_feedbacks (id, emoji_rating, rating_value, channel_type, feedback_sent_at, conversation_ended_at, contact_id, conversation_id, provedor_id)
  VALUES (40, '😀', 5, 'whatsapp', '2024-01-01', '2024-01-01', 10, 20, 7);
INSERT INTO core_auditlog (id, action, timestamp, ip_address, details, user_id, provedor_id, contact_name, conversation_id, csat_rating) VALUES
  (50, 'conversation_closed_agent', '2024-01-01', '10.0.0.1', 'closed by "ana"', 3, 7, 'Ana', '20', 5),
  (51, 'login', '2024-01-01', NULL, '{"b" : 1, "a": "\u00e7"}', 3, NULL, NULL, NULL, NULL),
  (52, 'odd', '2024-01-01', NULL, '{"nul": "\u0000"}', NULL, 8, NULL, NULL, NULL);
