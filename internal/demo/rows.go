package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// querier is a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// values are a row's columns by name, without the id. Values that were read from
// the database are texts, as Django's would be Python objects.
type values map[string]any

// with returns a copy of v with the changes made.
func (v values) with(changes values) values {
	out := maps.Clone(v)
	maps.Copy(out, changes)
	return out
}

// model is a table as the application's ORM sees it: an id and fields, all of
// which save() writes.
type model struct {
	table  string
	fields []string
}

var (
	provedorModel = model{"core_provedor", []string{"nome", "is_active", "created_at", "updated_at"}}
	userModel     = model{"core_user", []string{"password", "is_superuser", "username", "first_name", "last_name", "email",
		"is_staff", "is_active", "date_joined", "user_type", "is_online", "created_at", "updated_at", "permissions",
		"new_conversation_sound", "new_message_sound", "sound_notifications_enabled", "session_timeout"}}
	teamModel  = model{"conversations_team", []string{"name", "description", "is_active", "created_at", "updated_at", "provedor_id"}}
	inboxModel = model{"conversations_inbox", []string{"name", "channel_type", "is_active", "created_at", "updated_at",
		"provedor_id", "additional_attributes", "channel_id"}}
	contactModel = model{"conversations_contact", []string{"name", "email", "phone", "additional_attributes", "created_at",
		"updated_at", "provedor_id", "avatar"}}
	conversationModel = model{"conversations_conversation", []string{"status", "additional_attributes", "created_at",
		"updated_at", "assignee_id", "contact_id", "inbox_id", "last_message_at", "team_id"}}
	messageModel = model{"conversations_message", []string{"message_type", "content", "created_at", "conversation_id",
		"additional_attributes", "external_id", "is_from_customer", "updated_at", "file_name", "file_size", "file_url"}}
	feedbackModel = model{"csat_feedbacks", []string{"emoji_rating", "rating_value", "channel_type", "feedback_sent_at",
		"conversation_ended_at", "response_time_minutes", "original_message", "additional_data", "contact_id",
		"conversation_id", "provedor_id"}}
	requestModel = model{"csat_requests", []string{"status", "conversation_ended_at", "scheduled_send_at", "sent_at",
		"responded_at", "channel_type", "created_at", "updated_at", "contact_id", "conversation_id", "csat_feedback_id",
		"provedor_id"}}
	auditlogModel = model{"core_auditlog", []string{"action", "timestamp", "ip_address", "details", "user_id",
		"provedor_id", "channel_type", "contact_name", "conversation_id", "csat_rating", "user_agent"}}
)

// insert adds one row and returns its id. An "id" among the values is used, as
// when a vanished row is saved again.
func (m model) insert(ctx context.Context, q querier, v values) (int64, error) {
	ids, err := m.insertAll(ctx, q, []values{v})
	if err != nil {
		return 0, err
	}
	return ids[0], nil
}

// insertAll adds rows by one statement, as bulk_create does. All rows have the
// columns of the first.
func (m model) insertAll(ctx context.Context, q querier, rows []values) ([]int64, error) {
	columns := slices.Sorted(maps.Keys(rows[0]))
	var sql strings.Builder
	fmt.Fprintf(&sql, "INSERT INTO %s (%s) VALUES ", m.table, strings.Join(columns, ", "))
	var args []any
	for i, row := range rows {
		sep := ", ("
		if i == 0 {
			sep = "("
		}
		for _, c := range columns {
			args = append(args, row[c])
			fmt.Fprintf(&sql, "%s$%d", sep, len(args))
			sep = ", "
		}
		sql.WriteString(")")
	}
	sql.WriteString(" RETURNING id")
	res, err := q.Query(ctx, sql.String(), args...)
	if err != nil {
		return nil, fmt.Errorf("insert into %s: %w", m.table, err)
	}
	ids, err := pgx.CollectRows(res, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("insert into %s: %w", m.table, err)
	}
	if c, ok := q.(counting); ok {
		c.w.rows += int64(len(ids)) // what comes back from a Query isn't seen by counting
	}
	return ids, nil
}

// get reads one row; it returns nil when there is none.
func (m model) get(ctx context.Context, q querier, id int64) (values, error) {
	sql := fmt.Sprintf("SELECT %s FROM %s WHERE id = $1", strings.Join(m.fields, ", "), m.table)
	rows, err := q.Query(ctx, sql, pgx.QueryResultFormats{pgx.TextFormatCode}, id)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.table, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (values, error) {
		v := make(values, len(m.fields))
		for i, raw := range row.RawValues() {
			v[m.fields[i]] = nil
			if raw != nil {
				v[m.fields[i]] = string(raw)
			}
		}
		return v, nil
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.table, err)
	}
	return v, nil
}

// save writes every field of v, changed or not, and inserts the row under its
// old id when it has vanished: Model.save().
func (m model) save(ctx context.Context, q querier, id int64, v values) error {
	n, err := m.update(ctx, q, id, v)
	if err != nil || n > 0 {
		return err
	}
	_, err = m.insert(ctx, q, v.with(values{"id": id}))
	return err
}

// update writes the given columns only: save(update_fields=…) or
// QuerySet.update(). It returns how many rows there were.
func (m model) update(ctx context.Context, q querier, id int64, v values) (int64, error) {
	columns := slices.Sorted(maps.Keys(v))
	set := make([]string, len(columns))
	args := []any{id}
	for i, c := range columns {
		args = append(args, v[c])
		set[i] = fmt.Sprintf("%s = $%d", c, len(args))
	}
	tag, err := q.Exec(ctx, fmt.Sprintf("UPDATE %s SET %s WHERE id = $1", m.table, strings.Join(set, ", ")), args...)
	if err != nil {
		return 0, fmt.Errorf("update %s: %w", m.table, err)
	}
	return tag.RowsAffected(), nil
}

// deleteBy removes the rows whose column is one of ids, as Django's collector
// does for one table.
func (m model) deleteBy(ctx context.Context, q querier, column string, ids ...int64) (int64, error) {
	tag, err := q.Exec(ctx, fmt.Sprintf("DELETE FROM %s WHERE %s = ANY($1)", m.table, column), ids)
	if err != nil {
		return 0, fmt.Errorf("delete from %s: %w", m.table, err)
	}
	return tag.RowsAffected(), nil
}

// reserve takes the next id of the table, for a row that is written later.
func (m model) reserve(ctx context.Context, q querier) (int64, error) {
	var id int64
	err := q.QueryRow(ctx, "SELECT nextval(pg_get_serial_sequence($1, 'id'))", m.table).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("take an id of %s: %w", m.table, err)
	}
	return id, nil
}
