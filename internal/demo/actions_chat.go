package demo

import (
	"context"
	"fmt"
	"time"
)

// Everything here is autocommit, a row a transaction, as the application's
// webhooks and API do it.

func (w *worker) inbound(ctx context.Context) error {
	return w.message(ctx, true)
}

// reply adds an agent's message and saves the conversation, which an inbound
// message doesn't touch.
func (w *worker) reply(ctx context.Context) error {
	c := w.someConversation(isOpen)
	if c == nil {
		return errNothing
	}
	id, err := messageModel.insert(ctx, w.db(), newMessage(w.content, c.id, false, w.clock()))
	if err != nil {
		return err
	}
	c.add(id)
	return w.saveConversation(ctx, w.db(), c, nil)
}

func (w *worker) message(ctx context.Context, fromCustomer bool) error {
	c := w.someConversation(isOpen)
	if c == nil {
		return errNothing
	}
	id, err := messageModel.insert(ctx, w.db(), newMessage(w.content, c.id, fromCustomer, w.clock()))
	if err != nil {
		return err
	}
	c.add(id)
	return nil
}

// saveConversation is get() and save(): every column is written again.
func (w *worker) saveConversation(ctx context.Context, q querier, c *conversation, changes values) error {
	v, err := conversationModel.get(ctx, q, c.id)
	if err != nil {
		return err
	}
	if v == nil {
		return errNothing
	}
	return conversationModel.save(ctx, q, c.id, v.with(values{"updated_at": w.clock()}).with(changes))
}

// open is get_or_create of the contact, then the conversation and its first
// message.
func (w *worker) open(ctx context.Context) error {
	in := w.someInbox()
	v, err := inboxModel.get(ctx, w.db(), in.id)
	if err != nil {
		return err
	}
	if len(w.contacts) == 0 || w.chance(2) {
		id, err := contactModel.insert(ctx, w.db(), newContact(w.content, v["provedor_id"], w.clock()))
		if err != nil {
			return err
		}
		w.contacts = keepLast(append(w.contacts, id), maxContacts)
	}
	contact := w.contacts[len(w.contacts)-1-w.IntN(min(len(w.contacts), 5))]
	_, err = w.newConversation(ctx, in, contact)
	return err
}

func (w *worker) newConversation(ctx context.Context, in *inbox, contact int64) (*conversation, error) {
	now := w.clock()
	id, err := conversationModel.insert(ctx, w.db(), values{"status": pick(w.content, []string{"snoozed", "open", "pending"}),
		"additional_attributes": w.attributes(), "created_at": now, "updated_at": now, "assignee_id": nil,
		"contact_id": contact, "inbox_id": in.id, "last_message_at": nil, "team_id": nil})
	if err != nil {
		return nil, err
	}
	c := &conversation{id: id, inbox: in, contact: contact}
	w.remember(c)
	message, err := messageModel.insert(ctx, w.db(), newMessage(w.content, id, true, now))
	if err != nil {
		return nil, err
	}
	c.add(message)
	return c, nil
}

// saveUnchanged is save() of something that hasn't changed: only updated_at
// does, and for some not even that.
func (w *worker) saveUnchanged(ctx context.Context) error {
	c := w.someConversation(hasMessages)
	if c == nil {
		return errNothing
	}
	m, id := messageModel, pick(w.content, c.messages)
	switch w.IntN(4) {
	case 0:
		m, id = conversationModel, c.id
	case 1:
		m, id = contactModel, c.contact
	case 2:
		m, id = inboxModel, c.inbox.id
	}
	v, err := m.get(ctx, w.db(), id)
	if err != nil {
		return err
	}
	if v == nil {
		return errNothing
	}
	if !w.chance(4) {
		v["updated_at"] = w.clock()
	}
	_, err = m.update(ctx, w.db(), id, v)
	return err
}

func (w *worker) assign(ctx context.Context) error {
	c := w.someConversation(isOpen)
	if c == nil {
		return errNothing
	}
	user := pick(w.content, w.users)
	err := w.saveConversation(ctx, w.db(), c, values{"assignee_id": user, "status": "open",
		"additional_attributes": object("assigned_user", user, "assigned_at", w.clock().Format(time.RFC3339Nano))})
	if err != nil {
		return err
	}
	return w.log(ctx, "conversation_assigned", c, user)
}

func (w *worker) transfer(ctx context.Context) error {
	c := w.someConversation(isOpen)
	if c == nil {
		return errNothing
	}
	team := pick(w.content, w.teams)
	return w.saveConversation(ctx, w.db(), c, values{"assignee_id": nil, "team_id": team, "status": "pending",
		"additional_attributes": object("assigned_team", team, "transfer_reason", w.content.reply(), "transfer_from", w.name())})
}

// closeConversation saves the status and asks for an opinion.
func (w *worker) closeConversation(ctx context.Context) error {
	c := w.someConversation(isOpen)
	if c == nil {
		return errNothing
	}
	if err := w.saveConversation(ctx, w.db(), c, values{"status": "closed"}); err != nil {
		return err
	}
	c.closed = true
	action := pick(w.content, []string{"conversation_closed_agent", "conversation_closed_ai", "conversation_closed_manual"})
	if err := w.log(ctx, action, c, pick(w.content, w.users)); err != nil {
		return err
	}
	_, err := requestModel.insert(ctx, w.db(), newRequest(w.tenant(), c.contact, c.id, nil, w.clock()))
	return err
}

func (w *worker) reopen(ctx context.Context) error {
	c := w.someConversation(isClosed)
	if c == nil {
		return errNothing
	}
	if err := w.saveConversation(ctx, w.db(), c, values{"status": "open"}); err != nil {
		return err
	}
	c.closed = false
	return nil
}

// csatAnswer stores the answer, completes the request and saves the closed
// conversation, which ends it no second time.
func (w *worker) csatAnswer(ctx context.Context) error {
	c := w.someConversation(isClosed)
	if c == nil {
		return errNothing
	}
	now := w.clock()
	feedback, err := feedbackModel.insert(ctx, w.db(), newFeedback(w.content, w.tenant(), c.contact, c.id, now))
	if err != nil {
		return err
	}
	_, err = w.db().Exec(ctx, `UPDATE csat_requests SET status = 'completed', responded_at = $2, updated_at = $2,
		csat_feedback_id = $3 WHERE id = (SELECT max(id) FROM csat_requests WHERE conversation_id = $1)`, c.id, now, feedback)
	if err != nil {
		return fmt.Errorf("update csat_requests: %w", err)
	}
	return w.saveConversation(ctx, w.db(), c, nil)
}

// editMessage changes nothing but additional_attributes: in the application that
// is how a message is edited, deleted for its reader or reacted to.
func (w *worker) editMessage(ctx context.Context) error {
	c := w.someConversation(hasMessages)
	if c == nil {
		return errNothing
	}
	attributes := pick(w.content, []string{
		object("is_deleted", true, "deleted_at", w.clock().Format(time.RFC3339Nano)),
		object("edited", true, "previous", w.content.inbound()),
		object("reaction", map[string]any{"emoji": pick(w.content, emojis), "from_me": false}),
	})
	_, err := messageModel.update(ctx, w.db(), pick(w.content, c.messages), values{"additional_attributes": attributes})
	return err
}

// auditLog adds a row to the application's audit log; one in four belongs to no
// tenant.
func (w *worker) auditLog(ctx context.Context) error {
	if w.chance(4) {
		_, err := auditlogModel.insert(ctx, w.db(), newAuditlog(w.content, "login_failed", nil, nil, nil, w.clock()))
		return err
	}
	v := newAuditlog(w.content, pick(w.content, []string{"login", "logout", "edit", "create"}), w.tenant(),
		pick(w.content, w.users), nil, w.clock())
	_, err := auditlogModel.insert(ctx, w.db(), v)
	return err
}

// log is the entry that the application writes about a conversation.
func (w *worker) log(ctx context.Context, action string, c *conversation, user int64) error {
	_, err := auditlogModel.insert(ctx, w.db(), newAuditlog(w.content, action, w.tenant(), user, c.id, w.clock()))
	return err
}

func (w *worker) updateContact(ctx context.Context) error {
	if len(w.contacts) == 0 {
		return errNothing
	}
	id := pick(w.content, w.contacts)
	v, err := contactModel.get(ctx, w.db(), id)
	if err != nil {
		return err
	}
	if v == nil {
		return errNothing
	}
	fresh := newContact(w.content, nil, w.clock())
	for _, field := range []string{"name", "email", "avatar", "updated_at", "additional_attributes"} {
		if field == "updated_at" || w.chance(2) {
			v[field] = fresh[field]
		}
	}
	_, err = contactModel.update(ctx, w.db(), id, v)
	return err
}
