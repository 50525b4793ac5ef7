//go:build unix

package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/config"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
)

// The long form: go test ./cmd/syncd -run Replicas -v -replicas.for=2m -replicas.tick=5s -replicas.kill=20s
var (
	replicasFor  = flag.Duration("replicas.for", 16*time.Second, "how long TestReplicas lets three replicas be killed")
	replicasTick = flag.Duration("replicas.tick", 2*time.Second, "time between their ticks, whole seconds")
	replicasKill = flag.Duration("replicas.kill", 4*time.Second, "time between kills")
)

const (
	replicaCount     = 3
	replicaPool      = 10 // database.max_connections of each
	replicaFullTicks = 5  // ticks between two full runs
)

// TestReplicasKilledAgainAndAgainAnswerEverySlotOnce runs three processes on
// sixty organizations whose data keeps changing, and kills one after the other
// with SIGKILL.
func TestReplicasKilledAgainAndAgainAnswerEverySlotOnce(t *testing.T) {
	t.Parallel()
	large(t)
	r := newReplicas(t)
	began := time.Now()
	changing, stopChanging := context.WithCancel(t.Context())
	var living sync.WaitGroup
	living.Go(func() { r.live(changing) })
	living.Go(func() { r.watchConnections(changing) })
	kills := 0
	for n := 0; time.Since(began) < *replicasFor; n++ {
		r.pause(*replicasKill)
		r.kill(n % replicaCount)
		kills++
	}
	stopChanging()
	living.Wait()
	r.untilQuiet()
	r.stop()

	r.checkSlots(began)
	if left := r.text(`SELECT count(*)::text FROM polar.sync_runs WHERE status = 'running'`); left != "0" {
		t.Errorf("%s runs are left running", left)
	}
	for _, org := range r.orgs {
		r.compareAll(t, org.ID)
	}
	if most := (replicaCount + 1) * replicaPool; r.connections > most { // those of the one just killed may still be ending
		t.Errorf("%d connections at a time, want at most %d", r.connections, most)
	}
	r.report(kills, time.Since(began))
}

// replicas are the processes, and the source that they mirror.
type replicas struct {
	*fixture
	t           *testing.T
	processes   [replicaCount]*replica
	changes     int               // made at the source
	finished    [replicaCount]int // runs, by place
	connections int               // the most there were at a time
}

// A replica is one process after the other in one place.
type replica struct {
	cmd    *exec.Cmd
	ended  chan error
	stderr *buffer
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	var orgs []polarsim.Organization
	for n := range 60 {
		size := 20 + 7*n // most on one page, the others with real ticks
		if n%10 == 0 {
			size = 1500 // walks of several blocks
		}
		orgs = append(orgs, polarsim.Organization{Name: fmt.Sprintf("org%02d", n), Token: fmt.Sprintf("polar_oat_%s%d", canary, n), CustomerMeters: size})
	}
	sim := polarsim.New(polarsim.Options{Seed: 7, Organizations: orgs, Latency: 5 * time.Millisecond})
	running, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Close() })
	r := &replicas{t: t, fixture: &fixture{sim: sim, url: running.URL, db: pgtest.New(t, nil, ""), orgs: sim.Organizations()}}
	r.config = r.write(t, r.yaml(nil,
		fmt.Sprintf("schedule: {incremental: '@every %v', full: '@every %v'}", *replicasTick, replicaFullTicks**replicasTick),
		fmt.Sprintf("sync: {concurrency: %d}", replicaPool-config.SpareConnections)))
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	pool := fmt.Sprintf("max_connections: %d, url:", replicaPool)
	if err := os.WriteFile(r.config, []byte(strings.Replace(string(text), "database: {url:", "database: {"+pool, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range r.processes {
		r.launch(n)
	}
	t.Cleanup(func() {
		for _, p := range r.processes {
			_ = p.cmd.Process.Kill()
		}
	})
	return r
}

func (r *replicas) launch(n int) {
	r.t.Helper()
	p := &replica{cmd: exec.Command(os.Args[0], "--config", r.config), ended: make(chan error, 1), stderr: &buffer{}}
	p.cmd.Env = append(os.Environ(), mainEnv+"=1")
	p.cmd.Stderr = p.stderr
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	r.processes[n] = p
}

// kill ends a replica with SIGKILL and starts it again.
func (r *replicas) kill(n int) {
	r.t.Helper()
	p := r.processes[n]
	if err := p.cmd.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	<-p.ended
	r.checkLog(n)
	r.launch(n)
}

// stop has all replicas end in order.
func (r *replicas) stop() {
	r.t.Helper()
	for _, p := range r.processes {
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			r.t.Fatal(err)
		}
	}
	for n, p := range r.processes {
		if err := <-p.ended; err != nil {
			r.t.Errorf("replica %d: %v\n%s", n, err, p.stderr.String())
		}
		r.checkLog(n)
	}
}

// checkLog fails on what nobody should have to look at: replicas that die are no
// error of those that live.
func (r *replicas) checkLog(n int) {
	r.t.Helper()
	for line := range strings.Lines(r.processes[n].stderr.String()) {
		if strings.Contains(line, `"msg":"run finished"`) {
			r.finished[n]++
		}
		if strings.Contains(line, `"level":"error"`) || strings.Contains(line, `"level":"warn"`) || strings.Contains(line, canary) {
			r.t.Errorf("a replica says: %s", line)
		}
	}
}

// pause lets the replicas work.
func (r *replicas) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.t.Context().Done():
	}
}

// live changes rows and adds some, as long as ctx lasts.
func (r *replicas) live(ctx context.Context) {
	chance := rand.New(rand.NewPCG(1, 2))
	for ctx.Err() == nil {
		org := r.orgs[chance.IntN(len(r.orgs))]
		rows := r.sim.Listed(org.ID)
		if _, err := r.sim.Consume(rows[chance.IntN(len(rows))].ID, "0.125"); err != nil {
			r.t.Error(err)
		}
		if chance.IntN(10) == 0 {
			if _, err := r.sim.AddCustomerMeter(org.ID, polarsim.NewCustomerMeter{}); err != nil {
				r.t.Error(err)
			}
		}
		r.changes++
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// watchConnections notes how many connections the replicas have.
func (r *replicas) watchConnections(ctx context.Context) {
	for ctx.Err() == nil {
		var n int
		const sql = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'syncd'`
		if err := r.db.Pool.QueryRow(ctx, sql).Scan(&n); err == nil {
			r.connections = max(r.connections, n)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// untilQuiet waits until every organization has been walked and ticked since the
// source rests.
func (r *replicas) untilQuiet() {
	r.t.Helper()
	now := r.text(`SELECT clock_timestamp()::text`)
	const sql = `
SELECT count(*)::text
  FROM polar.organizations o
 WHERE EXISTS (SELECT FROM polar.sync_runs WHERE organization_id = o.id AND kind = 'full' AND status = 'succeeded' AND exact AND started_at > $1::timestamptz)
   AND EXISTS (SELECT FROM polar.sync_runs WHERE organization_id = o.id AND kind = 'incremental' AND status = 'succeeded' AND started_at > $1::timestamptz)`
	eventually(r.t, "a walk and a tick of all", func() bool { return r.text(sql, now) == fmt.Sprint(len(r.orgs)) })
}

// checkSlots fails unless each slot of each organization since the replicas know
// it is answered by one run or was skipped with a reason, and not both.
func (r *replicas) checkSlots(began time.Time) {
	r.t.Helper()
	const slots = `
SELECT
    o.name,
    ends.first,
    o.created_at,
    runs.n + skips.n
  FROM polar.organizations o
 CROSS JOIN LATERAL (
    SELECT
        least((SELECT min(slot) FROM polar.sync_runs WHERE organization_id = o.id AND kind = 'incremental'),
              (SELECT min(first_slot) FROM polar.skipped_slots WHERE organization_id = o.id AND kind = 'incremental')) AS first,
        (SELECT max(slot) FROM polar.sync_runs WHERE organization_id = o.id AND kind = 'incremental') AS last
 ) ends
 CROSS JOIN LATERAL generate_series(ends.first, ends.last, $1::interval) AS s (slot)
 CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM polar.sync_runs WHERE organization_id = o.id AND kind = 'incremental' AND slot = s.slot
 ) runs
 CROSS JOIN LATERAL (
    SELECT count(*) AS n
      FROM polar.skipped_slots
     WHERE organization_id = o.id AND kind = 'incremental' AND s.slot BETWEEN first_slot AND last_slot AND reason <> ''
 ) skips`
	rows, err := r.db.Pool.Query(r.t.Context(), slots, *replicasTick)
	if err != nil {
		r.t.Fatal(err)
	}
	var name string
	var first, registered time.Time
	var answers int
	seen, wrong, late := map[string]int{}, 0, time.Duration(0)
	_, err = pgx.ForEachRow(rows, []any{&name, &first, &registered, &answers}, func() error {
		if seen[name]++; seen[name] == 1 && first.Sub(registered) > *replicasTick {
			r.t.Errorf("%s is known since %v, and its slots are accounted for from %v", name, registered, first)
		}
		late = max(late, registered.Sub(began))
		if answers != 1 {
			wrong++
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if wrong > 0 || len(seen) != len(r.orgs) {
		r.t.Errorf("%d slots of %d organizations are not answered exactly once", wrong, len(seen))
	}
	r.t.Logf("slots of all organizations count from %v after the start on", late.Round(time.Millisecond))
	if other := r.text(`SELECT count(*)::text FROM polar.sync_runs WHERE kind = 'incremental' AND mod(extract(epoch FROM slot), extract(epoch FROM $1::interval)) <> 0`, *replicasTick); other != "0" {
		r.t.Errorf("%s ticks answer no slot", other)
	}
}

// report logs the figures.
func (r *replicas) report(kills int, took time.Duration) {
	r.t.Helper()
	figures := map[string]string{
		"kills":                   fmt.Sprint(kills),
		"runs of each replica":    fmt.Sprint(r.finished),
		"changes at the source":   fmt.Sprint(r.changes),
		"connections at most":     fmt.Sprint(r.connections),
		"ticks by status":         r.text(`SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM polar.sync_runs WHERE kind = 'incremental' GROUP BY status) t`),
		"full runs by status":     r.text(`SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM polar.sync_runs WHERE kind = 'full' GROUP BY status) t`),
		"slots skipped by reason": r.text(`SELECT string_agg(reason || ' ' || n, ', ') FROM (SELECT regexp_replace(reason, '[0-9]+ ', '') AS reason, sum(slots) AS n FROM polar.skipped_slots WHERE kind = 'incremental' GROUP BY 1) t`),
		"seconds a tick began after its slot (median, 99 %, most)": r.text(`
SELECT concat_ws(' ', round(percentile_cont(0.5) WITHIN GROUP (ORDER BY late)::numeric, 2), round(percentile_cont(0.99) WITHIN GROUP (ORDER BY late)::numeric, 2), round(max(late)::numeric, 2))
  FROM (SELECT extract(epoch FROM started_at - slot) AS late FROM polar.sync_runs WHERE kind = 'incremental' AND slot IS NOT NULL) t`),
	}
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		r.t.Logf("%s: %s", name, figures[name])
	}
	r.t.Logf("%d organizations, a tick every %v, %v in all", len(r.orgs), *replicasTick, took.Round(time.Second))
}

// text runs a query that returns one value.
func (r *replicas) text(sql string, args ...any) string {
	r.t.Helper()
	return r.fixture.text(r.t, sql, args...)
}
