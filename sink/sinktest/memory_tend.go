package sinktest

import (
	"context"
	"slices"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Alerts returns the alerts that were raised, oldest first.
func (m *Memory) Alerts(*sink.Alerts) []sink.Alert {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.data.alerts)
}

// Threshold gives a tenant a threshold of its own.
func (m *Memory) Threshold(_ *sink.Alerts, tenant string, open time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data.thresholds[tenant] = open
}

// Tend raises alerts. There is no Realtime in memory, so nothing is quieted.
func (s *memorySink) Tend(_ context.Context, epoch int64, _ sink.Tending) (done sink.Tended, err error) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.strike(OpTend); err != nil {
		return done, err
	}
	if _, err := s.mine(epoch); err != nil {
		return done, err
	}
	if s.schema == nil || s.schema.Alerts == nil {
		return done, nil
	}
	a := s.schema.Alerts
	for k, r := range m.data.rows {
		_, deleted := m.data.marks[id{bridge: s.name, table: k.table, key: k.key}]
		if k.table != a.Of.FullName() || deleted {
			continue
		}
		row := r.project(a.Of)
		if row[a.Status].Kind != cdc.Text || !slices.Contains(a.Open, row[a.Status].Text) {
			continue
		}
		start := row[a.Created]
		if a.Since >= 0 && !row[a.Since].IsNull() {
			start = row[a.Since]
		}
		alert := sink.Alert{Tenant: row[a.Of.Tenant].Text, Conversation: string(k.key), Kind: sink.LongOpen}
		if alert.Start, err = time.Parse("2006-01-02 15:04:05.999999Z07", start.Text); err != nil {
			return done, err
		}
		alert.Start = alert.Start.UTC()
		after, own := m.data.thresholds[alert.Tenant]
		if !own {
			after = a.After
		}
		if m.data.raise(alert, alert.Start.Before(m.now().Add(-after))) {
			done.Alerts++
		}
	}
	return done, nil
}

// raise adds an alert that is due and not there yet. One that is there follows its
// conversation to another tenant.
func (d *data) raise(alert sink.Alert, due bool) bool {
	i := slices.IndexFunc(d.alerts, func(o sink.Alert) bool {
		return o.Conversation == alert.Conversation && o.Kind == alert.Kind && o.Start.Equal(alert.Start)
	})
	if i >= 0 {
		d.alerts[i].Tenant = alert.Tenant
		return false
	}
	if due {
		d.alerts = append(d.alerts, alert)
	}
	return due
}
