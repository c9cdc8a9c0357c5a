package mapping

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/walbridge/walbridge/internal/cdc"
)

// The sum of batches must not keep the texts that their tenants were parts of.
func TestTally_KeepsNoRows(t *testing.T) {
	t.Parallel()
	var sum Tally
	row := strings.Repeat("1", 1000)
	for range 2 {
		batch := newTally()
		batch.add(&Source{Schema: "public", Name: "notes"}, cdc.TextValue(row[:5]), 1)
		sum.Merge(&batch)
	}
	for tenant, n := range sum.Tenants {
		if kept := unsafe.StringData(tenant) == unsafe.StringData(row); tenant != "11111" || n != 2 || kept {
			t.Errorf("tenant %s has %d rows, in the text of a row: %t", tenant, n, kept)
		}
	}
}
