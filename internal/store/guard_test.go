package store_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// A planNode is what the guards look at in EXPLAIN's answer.
type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Index    string     `json:"Index Name"`
	Cond     string     `json:"Index Cond"`
	Plans    []planNode `json:"Plans"`
	Bytes    float64    `json:"WAL Bytes"` // with those of the nodes below
	Records  float64    `json:"WAL Records"`
}

func (n planNode) walk(visit func(planNode)) {
	visit(n)
	for _, below := range n.Plans {
		below.walk(visit)
	}
}

// explain runs one statement on the session and returns its plan. The writes
// stay.
func explain(t testing.TB, s *store.Session, q *pgx.QueuedQuery) planNode {
	t.Helper()
	rows, err := s.Query(t.Context(), "EXPLAIN (ANALYZE, WAL, TIMING OFF, FORMAT JSON) "+q.SQL, q.Arguments...)
	if err != nil {
		t.Fatal(err)
	}
	text, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatalf("%v in\n%s", err, q.SQL)
	}
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan
}

// statements returns those that save rows as a page of the walk.
func statements(t testing.TB, s *store.Session, run *store.Run, rows []*polar.CustomerMeter) []*pgx.QueuedQuery {
	t.Helper()
	low, high := rows[0].Key(), rows[len(rows)-1].Key()
	return statementsOf(t, s, run, &store.Block{
		CustomerMeters: rows,
		Region:         &store.Region{Low: low, High: high},
		Cursor:         &store.Cursor{Low: low, Fingerprint: "f"},
	})
}

func statementsOf(t testing.TB, s *store.Session, run *store.Run, b *store.Block) []*pgx.QueuedQuery {
	t.Helper()
	list, err := s.BlockStatements(t.Context(), run, b)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestUnchangedBlockCostsFewStatementsAndHardlyAnyLog guards, without a clock,
// what a block costs that brings nothing new.
func TestUnchangedBlockCostsFewStatementsAndHardlyAnyLog(t *testing.T) {
	t.Parallel()
	s, db := openOwn(t)
	run := start(t, s, store.Full)
	rows := listed(t, 4000)
	saveAll(t, s, run, rows, 2000)
	vacuum(t, db)
	block := rows[:2000]
	statements(t, s, run, block) // plans are made once
	list := statements(t, s, run, block)
	if len(list) > 6 {
		t.Errorf("%d statements, want at most 6: the clock, three that compare, cursor, counts", len(list))
	}
	var logged float64
	data := regexp.MustCompile(`^(customers|meters|customer_meters|customer_meter_history.*)$`)
	for _, q := range list {
		plan := explain(t, s, q)
		logged += plan.Bytes
		plan.walk(func(n planNode) {
			if n.Type == "ModifyTable" && data.MatchString(n.Relation) && n.Records > 0 {
				t.Errorf("%v log records for %s", n.Records, n.Relation)
			}
		})
	}
	if most := float64(len(block)); logged > most {
		t.Errorf("%v bytes of log for %d unchanged rows, want less than one a row", logged, len(block))
	}
}

// TestPlansDoNotDependOnStatistics looks at the plans of a block on an empty
// mirror, on one that was filled and never analyzed, and on an analyzed one: all
// reach the large tables by index.
func TestPlansDoNotDependOnStatistics(t *testing.T) {
	t.Parallel()
	large(t)
	s, db := openOwn(t)
	run := start(t, s, store.Full)
	rows := listed(t, 10_000)
	check := func(when string) {
		t.Helper()
		block := rows[:1000]
		list := append(statements(t, s, run, block), statementsOf(t, s, run, &store.Block{CustomerMeters: block})...)
		for _, q := range list {
			explain(t, s, q).walk(func(n planNode) {
				large := strings.HasPrefix(n.Relation, "customer") || n.Relation == "meters"
				if n.Type == "Seq Scan" && large || n.Type == "Hash Join" || n.Type == "Merge Join" {
					t.Errorf("%s: %s %s in\n%s", when, n.Type, n.Relation, q.SQL)
				}
				if n.Index == "" || !strings.HasPrefix(n.Relation, "customer") || when == "empty" {
					return
				}
				// Otherwise all of the index is read, for each row that is looked up.
				first := lookup(t, db, `SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('polar.' || $1) AND attnum = 1`, n.Index)
				if !strings.Contains(n.Cond, first) {
					t.Errorf("%s: %s with %q on %s, which begins with %s, in\n%s", when, n.Type, n.Cond, n.Index, first, q.SQL)
				}
			})
		}
	}
	check("empty")
	saveAll(t, s, run, rows, 2000)
	check("filled and never analyzed")
	vacuum(t, db)
	check("analyzed")
}
