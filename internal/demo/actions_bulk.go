package demo

import (
	"context"
	"errors"
	"fmt"
)

// What is here runs in larger transactions or writes unusual values.

// largeValue gives a message, a conversation or a contact attributes that are
// stored out of line.
func (w *worker) largeValue(ctx context.Context) error {
	c := w.someConversation(hasMessages)
	if c == nil {
		return errNothing
	}
	heavy := pick(w.content, []heavyRow{
		{messageModel, pick(w.content, c.messages), c},
		{conversationModel, c.id, c},
		{contactModel, c.contact, nil},
	})
	_, err := heavy.model.update(ctx, w.db(), heavy.id, values{"additional_attributes": w.large()})
	if err == nil {
		w.burden(heavy)
	}
	return err
}

// besideLarge updates another column of such a row, so that the stream leaves
// the large one out.
func (w *worker) besideLarge(ctx context.Context) error {
	if len(w.heavy) == 0 {
		return errNothing
	}
	heavy := pick(w.content, w.heavy)
	v := values{"updated_at": w.clock()}
	switch heavy.model.table {
	case messageModel.table:
		v = values{"content": w.content.inbound()}
	case contactModel.table:
		v["name"] = w.name()
	}
	_, err := heavy.model.update(ctx, w.db(), heavy.id, v)
	return err
}

// purgeMessages is what the application does after some closes: the messages go,
// and the conversation is read from Supabase from then on.
func (w *worker) purgeMessages(ctx context.Context) error {
	c := w.someConversation(func(c *conversation) bool { return c.closed && len(c.messages) > 0 })
	if c == nil {
		return errNothing
	}
	err := w.atomic(ctx, w.db(), func(q querier) error {
		_, err := messageModel.deleteBy(ctx, q, "conversation_id", c.id)
		return err
	})
	if err == nil {
		c.messages = nil
	}
	return err
}

// deleteConversations is Django's cascade: children first, each table its own
// DELETE.
func deleteConversations(ctx context.Context, q querier, ids ...int64) error {
	for _, m := range []model{requestModel, feedbackModel, messageModel} {
		if _, err := m.deleteBy(ctx, q, "conversation_id", ids...); err != nil {
			return err
		}
	}
	_, err := conversationModel.deleteBy(ctx, q, "id", ids...)
	return err
}

func (w *worker) deleteConversation(ctx context.Context) error {
	c := w.someConversation(anyConversation)
	if c == nil {
		return errNothing
	}
	err := w.atomic(ctx, w.db(), func(q querier) error { return deleteConversations(ctx, q, c.id) })
	if err == nil {
		w.forget(func(o *conversation) bool { return o == c })
	}
	return err
}

// deleteInbox removes a channel with everything below it, and opens another one,
// so that there is always one.
func (w *worker) deleteInbox(ctx context.Context) error {
	in := w.someInbox()
	var fresh *inbox
	err := w.atomic(ctx, w.db(), func(q querier) error {
		rows, err := q.Query(ctx, `SELECT id FROM conversations_conversation WHERE inbox_id = $1`, in.id)
		if err != nil {
			return err
		}
		ids, err := collectIDs(rows)
		if err != nil {
			return err
		}
		if err := deleteConversations(ctx, q, ids...); err != nil {
			return err
		}
		if _, err := inboxModel.deleteBy(ctx, q, "id", in.id); err != nil {
			return err
		}
		fresh, err = w.newInbox(ctx, q, w.tenant())
		return err
	})
	if err != nil {
		return err
	}
	w.forget(func(c *conversation) bool { return c.inbox == in })
	for i, other := range w.inboxes {
		if other == in {
			w.inboxes[i] = fresh
		}
	}
	return nil
}

func (w *worker) newInbox(ctx context.Context, q querier, tenant any) (*inbox, error) {
	now := w.clock()
	channel := pick(w.content, channels)
	id, err := inboxModel.insert(ctx, q, values{"name": "Novo canal " + channel, "channel_type": channel, "is_active": true,
		"created_at": now, "updated_at": now, "provedor_id": tenant, "additional_attributes": "{}",
		"channel_id": fmt.Sprintf("canal-%d", w.IntN(1e6))})
	return &inbox{id}, err
}

// dig deletes a message in q and returns it.
func (w *worker) dig(ctx context.Context, q querier, c *conversation) (grave, error) {
	id := pick(w.content, c.messages)
	row, err := messageModel.get(ctx, q, id)
	if err != nil {
		return grave{}, err
	}
	if row == nil {
		return grave{}, errNothing
	}
	_, err = messageModel.deleteBy(ctx, q, "id", id)
	return grave{id, row, c}, err
}

func (w *worker) deleteMessage(ctx context.Context) error {
	c := w.someConversation(hasMessages)
	if c == nil {
		return errNothing
	}
	g, err := w.dig(ctx, w.db(), c)
	if err != nil {
		return err
	}
	c.messages = without(c.messages, g.id)
	w.bury(g)
	return nil
}

// resurrect is save() of an instance whose row has vanished: it is inserted
// again under its old id.
func (w *worker) resurrect(ctx context.Context) error {
	if len(w.graves) == 0 {
		return errNothing
	}
	i := w.IntN(len(w.graves))
	g := w.graves[i]
	if err := messageModel.save(ctx, w.db(), g.id, g.row.with(values{"updated_at": w.clock()})); err != nil {
		return err
	}
	w.graves = append(w.graves[:i:i], w.graves[i+1:]...)
	g.of.add(g.id)
	return nil
}

// recreate deletes a row and inserts it again under its id in one transaction.
func (w *worker) recreate(ctx context.Context) error {
	c := w.someConversation(hasMessages)
	if c == nil {
		return errNothing
	}
	return w.atomic(ctx, w.db(), func(q querier) error {
		g, err := w.dig(ctx, q, c)
		if err != nil {
			return err
		}
		_, err = messageModel.insert(ctx, q, g.row.with(values{"id": g.id, "content": w.content.inbound()}))
		return err
	})
}

// errUndo takes a transaction back.
var errUndo = errors.New("rolled back on purpose")

// savepoint writes a message, then takes back what an inner atomic() has
// written, then writes another.
func (w *worker) savepoint(ctx context.Context) error {
	c := w.someConversation(hasMessages)
	if c == nil {
		return errNothing
	}
	var kept []int64
	err := w.atomic(ctx, w.db(), func(q querier) error {
		for range 2 {
			id, err := messageModel.insert(ctx, q, newMessage(w.content, c.id, true, w.clock()))
			if err != nil {
				return err
			}
			kept = append(kept, id)
			if err := w.takeBack(ctx, q, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		c.add(kept...)
	}
	return err
}

// takeBack writes in all ways and rolls it back.
func (w *worker) takeBack(ctx context.Context, q querier, c *conversation) error {
	err := w.atomic(ctx, q, func(q querier) error {
		if _, err := messageModel.insert(ctx, q, newMessage(w.content, c.id, true, w.clock())); err != nil {
			return err
		}
		if err := w.saveConversation(ctx, q, c, values{"status": "nunca", "additional_attributes": `{"nunca": true}`}); err != nil {
			return err
		}
		if _, err := inboxModel.update(ctx, q, c.inbox.id, values{"provedor_id": w.tenant()}); err != nil {
			return err
		}
		if _, err := messageModel.deleteBy(ctx, q, "id", pick(w.content, c.messages)); err != nil {
			return err
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

func (w *worker) rollback(ctx context.Context) error {
	c := w.someConversation(hasMessages)
	if c == nil {
		return errNothing
	}
	return w.takeBack(ctx, w.db(), c)
}

// childFirst inserts a message, then its conversation, then contact and inbox,
// which deferred foreign keys allow.
func (w *worker) childFirst(ctx context.Context) error {
	now := w.clock()
	c := &conversation{inbox: w.someInbox()}
	newChannel := w.chance(3)
	err := w.atomic(ctx, w.db(), func(q querier) error {
		var err error
		if c.id, err = conversationModel.reserve(ctx, q); err != nil {
			return err
		}
		if c.contact, err = contactModel.reserve(ctx, q); err != nil {
			return err
		}
		inboxID := c.inbox.id
		if newChannel {
			if inboxID, err = inboxModel.reserve(ctx, q); err != nil {
				return err
			}
		}
		message, err := messageModel.insert(ctx, q, newMessage(w.content, c.id, true, now))
		if err != nil {
			return err
		}
		c.messages = []int64{message}
		_, err = conversationModel.insert(ctx, q, values{"id": c.id, "status": "open", "additional_attributes": "{}",
			"created_at": now, "updated_at": now, "contact_id": c.contact, "inbox_id": inboxID})
		if err != nil {
			return err
		}
		if _, err := contactModel.insert(ctx, q, newContact(w.content, w.tenant(), now).with(values{"id": c.contact})); err != nil {
			return err
		}
		if !newChannel {
			return nil
		}
		c.inbox = &inbox{inboxID}
		_, err = inboxModel.insert(ctx, q, values{"id": inboxID, "name": "Canal tardio", "channel_type": "webchat",
			"is_active": true, "created_at": now, "updated_at": now, "provedor_id": w.tenant(),
			"additional_attributes": "{}", "channel_id": "tardio"})
		return err
	})
	if err != nil {
		return err
	}
	w.remember(c)
	w.contacts = keepLast(append(w.contacts, c.contact), maxContacts)
	return nil
}

// repeated updates one row many times in one transaction; the last one wins.
func (w *worker) repeated(ctx context.Context) error {
	c := w.someConversation(anyConversation)
	if c == nil {
		return errNothing
	}
	return w.atomic(ctx, w.db(), func(q querier) error {
		for i := range 10 + w.IntN(40) {
			status := pick(w.content, []string{"open", "pending", "snoozed"})
			if c.closed {
				status = "closed"
			}
			_, err := conversationModel.update(ctx, q, c.id, values{"status": status,
				"additional_attributes": object("passo", i)})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// bulkImport brings in contacts with conversations and messages by bulk_create.
func (w *worker) bulkImport(ctx context.Context) error {
	in := w.someInbox()
	n := 20 + w.IntN(120)
	var contacts, conversations []int64
	err := w.atomic(ctx, w.db(), func(q querier) error {
		tenant, now := w.tenant(), w.clock()
		var rows []values
		for range n {
			rows = append(rows, newContact(w.content, tenant, now))
		}
		var err error
		if contacts, err = contactModel.insertAll(ctx, q, rows); err != nil {
			return err
		}
		rows = rows[:0]
		for _, contact := range contacts {
			rows = append(rows, values{"status": "closed", "additional_attributes": w.attributes(), "created_at": now,
				"updated_at": now, "contact_id": contact, "inbox_id": in.id})
		}
		if conversations, err = conversationModel.insertAll(ctx, q, rows); err != nil {
			return err
		}
		rows = rows[:0]
		for _, id := range conversations {
			for i := range 1 + w.IntN(4) {
				rows = append(rows, newMessage(w.content, id, i%2 == 0, now))
			}
		}
		_, err = messageModel.insertAll(ctx, q, rows)
		return err
	})
	if err != nil {
		return err
	}
	w.contacts = keepLast(append(w.contacts, contacts[:10]...), maxContacts)
	for i, id := range conversations[:10] {
		w.remember(&conversation{id: id, contact: contacts[i], inbox: in, closed: true})
	}
	return nil
}
