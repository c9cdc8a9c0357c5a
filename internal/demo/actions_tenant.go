package demo

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// What is here changes the tenant of rows, or takes it away.

// moveInbox gives a channel to another tenant: one UPDATE that moves every
// conversation and message of it.
func (w *worker) moveInbox(ctx context.Context) error {
	_, err := inboxModel.update(ctx, w.db(), w.someInbox().id, values{"provedor_id": w.tenant()})
	return err
}

// swapInboxes exchanges the tenants of two channels in one transaction.
func (w *worker) swapInboxes(ctx context.Context) error {
	a, b := w.someInbox(), w.someInbox()
	if a == b {
		return errNothing
	}
	return w.atomic(ctx, w.db(), func(q querier) error {
		va, err := inboxModel.get(ctx, q, a.id)
		if err != nil {
			return err
		}
		vb, err := inboxModel.get(ctx, q, b.id)
		if err != nil {
			return err
		}
		if va == nil || vb == nil {
			return errNothing
		}
		if err := inboxModel.save(ctx, q, a.id, va.with(values{"provedor_id": vb["provedor_id"]})); err != nil {
			return err
		}
		return inboxModel.save(ctx, q, b.id, vb.with(values{"provedor_id": va["provedor_id"]}))
	})
}

// moveContact changes the contact's own tenant, which is also that of its
// conversations where the channel has none.
func (w *worker) moveContact(ctx context.Context) error {
	if len(w.contacts) == 0 {
		return errNothing
	}
	_, err := contactModel.update(ctx, w.db(), pick(w.content, w.contacts), values{"provedor_id": w.tenant()})
	return err
}

func (w *worker) changeInbox(ctx context.Context) error {
	c, in := w.someConversation(anyConversation), w.someInbox()
	if c == nil {
		return errNothing
	}
	err := w.saveConversation(ctx, w.db(), c, values{"inbox_id": in.id})
	if err == nil {
		c.inbox = in
	}
	return err
}

// mergeContact points a conversation at another contact; its messages follow.
func (w *worker) mergeContact(ctx context.Context) error {
	c := w.someConversation(anyConversation)
	if c == nil || len(w.contacts) == 0 {
		return errNothing
	}
	contact := pick(w.content, w.contacts)
	n, err := conversationModel.update(ctx, w.db(), c.id, values{"contact_id": contact})
	if err == nil && n > 0 {
		c.contact = contact
	}
	return err
}

// openWithoutTenant opens a channel that belongs to nobody and writes into it.
func (w *worker) openWithoutTenant(ctx context.Context) error {
	in, err := w.newInbox(ctx, w.db(), nil)
	if err != nil {
		return err
	}
	contact, err := contactModel.insert(ctx, w.db(), newContact(w.content, nil, w.clock()))
	if err != nil {
		return err
	}
	w.inboxes = append(w.inboxes, in)
	w.contacts = keepLast(append(w.contacts, contact), maxContacts)
	_, err = w.newConversation(ctx, in, contact)
	return err
}

// loseTenant takes the tenant from a channel and, in half of the cases, from the
// contacts of its conversations too.
func (w *worker) loseTenant(ctx context.Context) error {
	in := w.someInbox()
	both := w.chance(2)
	return w.atomic(ctx, w.db(), func(q querier) error {
		if _, err := inboxModel.update(ctx, q, in.id, values{"provedor_id": nil}); err != nil || !both {
			return err
		}
		_, err := q.Exec(ctx, `UPDATE conversations_contact SET provedor_id = NULL WHERE id IN
			(SELECT contact_id FROM conversations_conversation WHERE inbox_id = $1)`, in.id)
		if err != nil {
			return fmt.Errorf("update conversations_contact: %w", err)
		}
		return nil
	})
}

// gainTenant gives one to a channel or a contact that has none.
func (w *worker) gainTenant(ctx context.Context) error {
	m, ids := inboxModel, make([]int64, 0, len(w.inboxes))
	for _, in := range w.inboxes {
		ids = append(ids, in.id)
	}
	if w.chance(2) {
		m, ids = contactModel, w.contacts
	}
	rows, err := w.db().Query(ctx, fmt.Sprintf(
		`SELECT id FROM %s WHERE provedor_id IS NULL AND id = ANY($1) ORDER BY id LIMIT 10`, m.table), ids)
	if err != nil {
		return err
	}
	if ids, err = collectIDs(rows); err != nil {
		return err
	}
	if len(ids) == 0 {
		return errNothing
	}
	_, err = m.update(ctx, w.db(), pick(w.content, ids), values{"provedor_id": w.tenant()})
	return err
}

func collectIDs(rows pgx.Rows) ([]int64, error) { return pgx.CollectRows(rows, pgx.RowTo[int64]) }

func without(ids []int64, id int64) []int64 {
	return slices.DeleteFunc(ids, func(other int64) bool { return other == id })
}
