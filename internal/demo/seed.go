package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// SeedOptions say how much Seed writes. Zero fields take the defaults.
type SeedOptions struct {
	Seed          uint64
	Tenants       int // 4
	Inboxes       int // per tenant, 2
	Contacts      int // per tenant, 40
	Conversations int // per tenant, 60
	Messages      int // per conversation, on average, 6
	// Now is the application host's clock; nil stands for time.Now.
	Now func() time.Time
}

func (o SeedOptions) withDefaults() SeedOptions {
	def := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	def(&o.Tenants, 4)
	def(&o.Inboxes, 2)
	def(&o.Contacts, 40)
	def(&o.Conversations, 60)
	def(&o.Messages, 6)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// seeder holds what the rows of one Seed refer to.
type seeder struct {
	tx   pgx.Tx
	opts SeedOptions
	c    content
}

// Seed fills an empty database that has SourceSchema with tenants, inboxes,
// contacts, conversations, messages, CSAT answers and the application's audit
// log: what a first copy finds. Some contacts and one inbox belong to no tenant.
func Seed(ctx context.Context, conn *pgx.Conn, opts SeedOptions) error {
	opts = opts.withDefaults()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	defer tx.Rollback(ctx)
	s := &seeder{tx: tx, opts: opts, c: content{rand.New(rand.NewPCG(opts.Seed, 0))}}
	for n := range opts.Tenants {
		if err := s.tenant(ctx, n); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	if err := s.strays(ctx); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	return nil
}

func (s *seeder) tenant(ctx context.Context, n int) error {
	at := s.c.past(s.opts.Now())
	tenant, err := provedorModel.insert(ctx, s.tx, values{"nome": companies[n%len(companies)], "is_active": true,
		"created_at": at, "updated_at": at})
	if err != nil {
		return err
	}
	var users []int64
	for i := range 3 {
		id, err := userModel.insert(ctx, s.tx, s.user(tenant, i, at))
		if err != nil {
			return err
		}
		users = append(users, id)
	}
	team, err := teamModel.insert(ctx, s.tx, values{"name": "Suporte", "description": "", "is_active": true,
		"created_at": at, "updated_at": at, "provedor_id": tenant})
	if err != nil {
		return err
	}
	var inboxes []int64
	for i := range s.opts.Inboxes {
		id, err := inboxModel.insert(ctx, s.tx, s.inbox(tenant, channels[i%len(channels)]))
		if err != nil {
			return err
		}
		inboxes = append(inboxes, id)
	}
	var contacts []int64
	for range s.opts.Contacts {
		id, err := contactModel.insert(ctx, s.tx, newContact(s.c, tenant, s.c.past(s.opts.Now())))
		if err != nil {
			return err
		}
		contacts = append(contacts, id)
	}
	for range s.opts.Conversations {
		if err := s.conversation(ctx, tenant, pick(s.c, inboxes), pick(s.c, contacts), pick(s.c, users), team); err != nil {
			return err
		}
	}
	return nil
}

func (s *seeder) user(tenant int64, n int, at time.Time) values {
	first := pick(s.c, firstNames)
	return values{"password": "!", "is_superuser": false, "username": fmt.Sprintf("atendente%d.%d", tenant, n),
		"first_name": first, "last_name": pick(s.c, lastNames), "email": "", "is_staff": false, "is_active": true,
		"date_joined": at, "user_type": "agent", "is_online": true, "created_at": at, "updated_at": at,
		"permissions": "[]", "new_conversation_sound": "", "new_message_sound": "",
		"sound_notifications_enabled": true, "session_timeout": 30}
}

func (s *seeder) inbox(tenant any, channel string) values {
	at := s.c.past(s.opts.Now())
	return values{"name": "Atendimento " + channel, "channel_type": channel, "is_active": true, "created_at": at,
		"updated_at": at, "provedor_id": tenant, "additional_attributes": s.c.attributes(),
		"channel_id": fmt.Sprintf("canal-%d", s.c.IntN(1e6))}
}

// newContact has a phone number that no other contact has, so that contacts may
// move between tenants in spite of their unique constraint.
func newContact(c content, tenant any, at time.Time) values {
	name := c.name()
	var avatar any
	if c.chance(2) {
		avatar = fmt.Sprintf("https://exemplo.invalid/avatar/%x.jpg", c.Uint32())
	}
	return values{"name": name, "email": c.email(name), "phone": c.phone(c.Uint64()),
		"additional_attributes": c.attributes(), "created_at": at, "updated_at": at, "provedor_id": tenant, "avatar": avatar}
}

// conversation adds one with its messages, and for some closed ones the CSAT
// request and its answer.
func (s *seeder) conversation(ctx context.Context, tenant, inbox, contact, user, team int64) error {
	at := s.c.past(s.opts.Now())
	status := pick(s.c, []string{"open", "open", "pending", "snoozed", "closed", "closed", "closed", "resolved", "ended"})
	v := values{"status": status, "additional_attributes": s.c.attributes(), "created_at": at, "updated_at": at.Add(time.Hour),
		"assignee_id": nil, "contact_id": contact, "inbox_id": inbox, "last_message_at": nil, "team_id": nil}
	if s.c.chance(2) {
		v["assignee_id"], v["team_id"] = user, team
	}
	id, err := conversationModel.insert(ctx, s.tx, v)
	if err != nil {
		return err
	}
	rows := make([]values, 1+s.c.IntN(2*s.opts.Messages))
	for i := range rows {
		rows[i] = newMessage(s.c, id, s.c.chance(2), at.Add(time.Duration(i)*time.Minute))
	}
	if _, err := messageModel.insertAll(ctx, s.tx, rows); err != nil {
		return err
	}
	if status != "closed" {
		return nil
	}
	ended := at.Add(50 * time.Minute)
	if _, err := auditlogModel.insert(ctx, s.tx, newAuditlog(s.c, "conversation_closed_agent", tenant, user, id, ended)); err != nil {
		return err
	}
	return s.csat(ctx, tenant, contact, id, ended)
}

func (s *seeder) csat(ctx context.Context, tenant, contact, conversation int64, ended time.Time) error {
	var feedback any
	if s.c.chance(2) {
		id, err := feedbackModel.insert(ctx, s.tx, newFeedback(s.c, tenant, contact, conversation, ended))
		if err != nil {
			return err
		}
		feedback = id
	}
	_, err := requestModel.insert(ctx, s.tx, newRequest(tenant, contact, conversation, feedback, ended))
	return err
}

// strays adds rows whose tenant can't be told: an inbox and a contact without
// one and what hangs on them, and audit rows of failed logins.
func (s *seeder) strays(ctx context.Context) error {
	inbox, err := inboxModel.insert(ctx, s.tx, s.inbox(nil, "webchat"))
	if err != nil {
		return err
	}
	for range 3 {
		at := s.c.past(s.opts.Now())
		contact, err := contactModel.insert(ctx, s.tx, newContact(s.c, nil, at))
		if err != nil {
			return err
		}
		conversation, err := conversationModel.insert(ctx, s.tx, values{"status": "open", "additional_attributes": "{}",
			"created_at": at, "updated_at": at, "contact_id": contact, "inbox_id": inbox})
		if err != nil {
			return err
		}
		if _, err := messageModel.insert(ctx, s.tx, newMessage(s.c, conversation, true, at)); err != nil {
			return err
		}
		if _, err := auditlogModel.insert(ctx, s.tx, newAuditlog(s.c, "login_failed", nil, nil, nil, at)); err != nil {
			return err
		}
	}
	return nil
}

func newMessage(c content, conversation int64, fromCustomer bool, at time.Time) values {
	v := values{"message_type": "incoming", "content": "", "created_at": at, "conversation_id": conversation,
		"additional_attributes": c.attributes(), "external_id": fmt.Sprintf("%016X", c.Uint64()),
		"is_from_customer": fromCustomer, "updated_at": at, "file_name": nil, "file_size": nil, "file_url": nil}
	if fromCustomer {
		v["content"] = c.inbound()
	} else {
		v["content"], v["message_type"], v["external_id"] = c.reply(), "outgoing", nil
	}
	if c.chance(10) {
		v["message_type"], v["file_name"] = "audio", fmt.Sprintf("áudio %d.ogg", c.IntN(1000))
		v["file_size"], v["file_url"] = c.IntN(1<<22), fmt.Sprintf("https://exemplo.invalid/media/%x", c.Uint64())
	}
	return v
}

func newFeedback(c content, tenant, contact, conversation int64, ended time.Time) values {
	rating := 1 + c.IntN(5)
	var original any
	if !c.chance(4) {
		original = pick(c, []string{"Muito bom!", "péssimo", "Nota 10 👏", emojis[rating-1], ""})
	}
	return values{"emoji_rating": emojis[rating-1], "rating_value": rating, "channel_type": "whatsapp",
		"feedback_sent_at": ended.Add(5 * time.Minute), "conversation_ended_at": ended, "response_time_minutes": 5,
		"original_message": original, "additional_data": c.attributes(), "contact_id": contact,
		"conversation_id": conversation, "provedor_id": tenant}
}

func newRequest(tenant, contact, conversation int64, feedback any, ended time.Time) values {
	v := values{"status": "pending", "conversation_ended_at": ended, "scheduled_send_at": ended.Add(3 * time.Minute),
		"sent_at": nil, "responded_at": nil, "channel_type": "whatsapp", "created_at": ended, "updated_at": ended,
		"contact_id": contact, "conversation_id": conversation, "csat_feedback_id": feedback, "provedor_id": tenant}
	if feedback != nil {
		v["status"], v["sent_at"], v["responded_at"] = "completed", ended.Add(3*time.Minute), ended.Add(5*time.Minute)
	}
	return v
}

// newAuditlog is a row of the application's own audit log. Its details are text:
// sentences, JSON, and sometimes neither.
func newAuditlog(c content, action string, tenant, user, conversation any, at time.Time) values {
	details := pick(c, []string{"Conversa encerrada pelo atendente", `{"ip": "203.0.113.9", "resolution_type": "fim"}`,
		"{'user': 'ana', 'ok': False}", "", "Alteração de \"plano\"\nlinha 2", `[1, 2.50, null]`, `"só texto"`})
	var id, contact any
	if conversation != nil {
		id, contact = fmt.Sprint(conversation), c.name()
	}
	return values{"action": action, "timestamp": at, "ip_address": c.address(), "details": details, "user_id": user,
		"provedor_id": tenant, "channel_type": "whatsapp", "contact_name": contact, "conversation_id": id,
		"csat_rating": nil, "user_agent": "Mozilla/5.0 (X11; Linux x86_64)"}
}
