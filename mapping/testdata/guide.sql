-- The target tables as NioChat's guide to Supabase makes them.
CREATE TABLE conversations (id bigint PRIMARY KEY, provedor_id bigint NOT NULL, contact_id bigint NOT NULL, inbox_id bigint,
    status text DEFAULT 'open', assignee_id bigint, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(),
    ended_at timestamptz, additional_attributes jsonb);
CREATE TABLE contacts (id bigint PRIMARY KEY, provedor_id bigint NOT NULL, name text NOT NULL, phone text, email text, avatar text,
    created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(), additional_attributes jsonb);
CREATE TABLE messages (id bigint PRIMARY KEY, conversation_id bigint NOT NULL, contact_id bigint NOT NULL, provedor_id bigint NOT NULL,
    content text, message_type text DEFAULT 'text', is_from_customer boolean DEFAULT true, file_url text, file_name text,
    file_size bigint, external_id text, additional_attributes jsonb, created_at timestamptz DEFAULT now());
CREATE TABLE csat_feedback (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), provedor_id bigint NOT NULL, conversation_id bigint NOT NULL,
    contact_id bigint NOT NULL, emoji_rating text, rating_value integer NOT NULL, original_message text, contact_avatar text,
    feedback_sent_at timestamptz DEFAULT now());
CREATE TABLE audit_logs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), provedor_id bigint NOT NULL, user_id bigint,
    action text NOT NULL, details jsonb, timestamp timestamptz DEFAULT now());
