package verify

import (
	"context"
	"slices"

	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/sink"
)

// Repairer returns a function for Options.Repair that asks the running bridge and
// waits for it.
func Repairer(target request.Target, bridge string) func(ctx context.Context, table string, keys []sink.Key) error {
	return func(ctx context.Context, table string, keys []sink.Key) error {
		for part := range slices.Chunk(keys, request.MaxRepairKeys) {
			r, err := request.Ask(ctx, target, bridge, request.Repair, request.RepairArgs{Table: table, Keys: part})
			if err != nil {
				return err
			}
			if _, err := r.Wait(ctx, func(string) {}); err != nil {
				return err
			}
		}
		return nil
	}
}
