package pgoutput

import (
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
)

// BenchmarkDecode measures changes of an ordinary table: eight columns, of which
// one is null, in about a hundred bytes.
func BenchmarkDecode(b *testing.B) {
	rel := &cdc.Relation{OID: 16384, Schema: "public", Name: "conversations_message", Identity: cdc.IdentityDefault}
	for _, name := range []string{"id", "conversation_id", "content", "type", "sender_id", "created_at", "read_at", "private"} {
		rel.Columns = append(rel.Columns, cdc.Column{Name: name, Type: 25, Mod: -1, Key: name == "id"})
	}
	row := cdc.Row{cdc.TextValue("1234567"), cdc.TextValue("98765"), cdc.TextValue("bom dia, tudo bem?"), cdc.TextValue("text"),
		cdc.TextValue("42"), cdc.TextValue("2026-01-02 03:04:05.678901+00"), {}, cdc.TextValue("f")}
	key := make(cdc.Row, len(row))
	key[0] = row[0]
	large := append(cdc.Row{}, row...)
	large[2] = cdc.TextValue(strings.Repeat("x", 64<<10))

	for _, bc := range []struct {
		name string
		m    Message
	}{
		{"insert", Message{Kind: Insert, Relation: rel, New: row}},
		{"update", Message{Kind: Update, Relation: rel, New: row}},
		{"update_full", Message{Kind: Update, Relation: rel, Old: row, OldFull: true, New: row}},
		{"delete", Message{Kind: Delete, Relation: rel, Old: key}},
		{"insert_64k", Message{Kind: Insert, Relation: rel, New: large}},
		{"commit", Message{Kind: Commit, CommitLSN: 1, EndLSN: 2}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			d := newDecoder(b, string(encode(&Message{Kind: Relation, Relation: rel})))
			frame := encode(&bc.m)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			var m Message
			for b.Loop() {
				if err := d.Decode(frame, &m); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}
