package replicator_test

import "testing"

// A tenant may be four tables away. Whatever changes on the way there moves the rows.
func TestBridge_MovesOverManySteps(t *testing.T) {
	t.Parallel()
	for name, columns := range map[string]string{
		"all by one column": "[id, step_id]",
		"each its own":      "[id, step_id, other_id, {other: other.name}]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, `
				CREATE TABLE owner (id int PRIMARY KEY, provedor_id int);
				CREATE TABLE account (id int PRIMARY KEY, owner_id int REFERENCES owner);
				CREATE TABLE place (id int PRIMARY KEY, account_id int REFERENCES account, name text);
				CREATE TABLE step (id int PRIMARY KEY, place_id int REFERENCES place, name text);
				CREATE TABLE item (id int PRIMARY KEY, step_id int REFERENCES step, other_id int REFERENCES step);
				INSERT INTO owner VALUES (1, 1), (2, 2);
				INSERT INTO account VALUES (1, 1), (2, 2);
				INSERT INTO place VALUES (1, 1), (2, 2);
				INSERT INTO step VALUES (1, 1, 'a'), (2, 2, 'b');
				INSERT INTO item SELECT n, 1 + n % 2, 2 FROM generate_series(1, 6) n`, `
audit_log: {table: audit_logs}
tables:
  items:
    from: item
    tenant: [step.place.account.owner.provedor_id]
    columns: `+columns+`
    audit: {entity: item}
`)
			r := w.start()
			w.catchUp(r)
			for _, move := range []string{
				"UPDATE owner SET provedor_id = 3 WHERE id = 1", "UPDATE account SET owner_id = 2 WHERE id = 1",
				"UPDATE place SET account_id = NULL WHERE id = 2", "UPDATE step SET place_id = 1, name = 'c' WHERE id = 2",
				"UPDATE owner SET provedor_id = NULL", "UPDATE owner SET provedor_id = 4",
			} {
				w.exec(move)
				w.catchUp(r)
				w.requireEqual()
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
