//go:build patroni

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"polarmirror/internal/localpg"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/web"
)

const failovers = 3

// TestPatroniFailoversLoseNoDelivery kills the leader of a Patroni cluster of two,
// with synchronous_mode on, in the middle of full runs and of a stream of webhooks.
// It needs the programs patroni and etcd; .ci/long installs them.
func TestPatroniFailoversLoseNoDelivery(t *testing.T) {
	c := newCluster(t)
	f := c.newFixture(t)
	address := freeAddress(t)
	config := f.write(t, strings.Replace(f.withSecret("webhook_secret: polar_whs_"+canary,
		`schedule: {incremental: "@every 2s", full: "@every 10s"}`, `http: {listen: "`+address+`"}`), "polar: {", "polar: {concurrency: 2, ", 1))
	service := start(t, t.TempDir(), "--config", config)
	accepted := &acceptance{}
	hooks := f.sim.StartWebhooks(polarsim.WebhookOptions{
		FirstRetry: 100 * time.Millisecond,
		Transport:  accepted,
		Endpoints:  []polarsim.WebhookEndpoint{{OrganizationID: f.orgs[0].ID, URL: "http://" + address + web.WebhookPath + "acme", Secret: "polar_whs_" + canary}},
	})
	defer hooks.Close()
	eventually(t, "the first full run", func() bool {
		return f.is(t, `SELECT EXISTS (SELECT FROM polar.sync_runs WHERE kind = 'full' AND status = 'succeeded')`)
	})

	ctx, stopChanging := context.WithCancel(t.Context())
	var changing sync.WaitGroup
	defer changing.Wait()
	defer stopChanging()
	changing.Go(func() { f.changeUntil(ctx, t) })
	for n := range failovers {
		eventually(t, "a synchronous standby", func() bool { return c.find("sync") != nil })
		eventually(t, "the middle of a full run", func() bool { return f.is(t, `SELECT EXISTS (SELECT FROM polar.cursors)`) })
		before, began := accepted.count(), time.Now()
		killed := c.find("leader")
		killed.end(t, syscall.SIGKILL)
		eventually(t, "another leader", func() bool { return c.find("leader") != nil })
		eventually(t, "deliveries", func() bool { return accepted.count() > before+50 })
		t.Logf("failover %d: %s was killed after %d deliveries; the next 50 were accepted within %v", n+1, killed.name, before, time.Since(began).Round(time.Second))
		killed.start(t)
	}
	stopChanging()
	changing.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := hooks.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the inbox", func() bool {
		return f.is(t, `SELECT NOT EXISTS (SELECT FROM polar.webhook_events WHERE status = 'pending')`)
	})
	rested := time.Now()
	eventually(t, "a full run", func() bool {
		return f.is(t, `SELECT EXISTS (SELECT FROM polar.sync_runs WHERE kind = 'full' AND status = 'succeeded' AND exact AND started_at > $1)`, rested)
	})
	if err := service.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if r := service.end(t); r.code != exitDone || strings.Contains(r.stdout+r.stderr, canary) {
		t.Errorf("exit code %d, stderr:\n%s", r.code, r.stderr)
	}

	if cut := f.text(t, `SELECT count(*)::text FROM polar.sync_runs WHERE kind = 'full' AND status <> 'succeeded'`); cut != strconv.Itoa(failovers) {
		t.Errorf("%s full runs were cut short, want %d", cut, failovers)
	}
	f.compareAll(t, f.orgs[0].ID)
	rows, err := f.db.Pool.Query(t.Context(), `SELECT webhook_id FROM polar.webhook_events WHERE status IN ('applied', 'ignored')`)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if lost := accepted.without(stored); len(lost) > 0 {
		t.Errorf("%d deliveries were accepted and are lost, such as %s", len(lost), lost[0])
	}
	stats := hooks.Stats()
	if stats.GivenUp > 0 {
		t.Errorf("%+v", stats)
	}
	t.Logf("%d deliveries accepted, after %d that failed first", accepted.count(), stats.Failed)
}

// An acceptance notes which deliveries were answered with 202.
type acceptance struct {
	mu  sync.Mutex
	ids []string
}

func (a *acceptance) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && answer.StatusCode == http.StatusAccepted {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ids = append(a.ids, r.Header.Get("webhook-id"))
	}
	return answer, err
}

func (a *acceptance) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids)
}

func (a *acceptance) without(stored []string) []string {
	slices.Sort(stored)
	return slices.DeleteFunc(slices.Clone(a.ids), func(id string) bool {
		_, found := slices.BinarySearch(stored, id)
		return found
	})
}

// newFixture simulates one organization whose full runs take some seconds.
func (c *cluster) newFixture(t *testing.T) *fixture {
	t.Helper()
	sim := polarsim.New(polarsim.Options{Seed: 7, Latency: 50 * time.Millisecond, Organizations: []polarsim.Organization{
		{Name: "acme", Token: "polar_oat_" + canary, CustomerMeters: 20_000, EveryMeter: true},
	}})
	running, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Close() })
	url := fmt.Sprintf("postgres://postgres:%s@%s,%s/postgres?target_session_attrs=read-write", canary, c.members[0].postgres, c.members[1].postgres)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &fixture{sim: sim, url: running.URL, db: &pgtest.Database{Name: "postgres", URL: url, Pool: pool}, orgs: sim.Organizations()}
}

// is asks whether something is so; it is not while there is no leader.
func (f *fixture) is(t *testing.T, sql string, args ...any) (yes bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return f.db.Pool.QueryRow(ctx, sql, args...).Scan(&yes) == nil && yes
}

// changeUntil changes some customer meters a second, each of which is announced.
func (f *fixture) changeUntil(ctx context.Context, t *testing.T) {
	rows := f.sim.Listed(f.orgs[0].ID)
	for ctx.Err() == nil {
		if _, err := f.sim.Consume(rows[rand.IntN(len(rows))].ID, "0.125"); err != nil {
			t.Error(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// A cluster is two members of Patroni and the etcd that they agree by.
type cluster struct{ members []*member }

// A member is a Patroni and its Postgres.
type member struct {
	name, dir      string
	rest, postgres string // addresses
	account        *syscall.Credential
	patroni        *exec.Cmd
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	programs, err := localpg.Find(t.Context(), os.Getenv("SYNCD_TEST_POSTGRES"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "syncd-patroni-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var account *syscall.Credential
	if os.Geteuid() == 0 { // Postgres refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	client, peer := freeAddress(t), "http://"+freeAddress(t)
	etcd := exec.Command("etcd", "--data-dir", filepath.Join(dir, "etcd"),
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	etcd.SysProcAttr = &syscall.SysProcAttr{Credential: account}
	if err := etcd.Start(); err != nil {
		t.Fatalf("%v: install etcd-server", err)
	}
	t.Cleanup(func() {
		_ = etcd.Process.Kill()
		_ = etcd.Wait() // it was killed
	})
	c := &cluster{}
	for i, name := range []string{"one", "two"} {
		m := &member{name: name, dir: filepath.Join(dir, name), rest: freeAddress(t), postgres: freeAddress(t), account: account}
		c.members = append(c.members, m)
		text := strings.NewReplacer("NAME", name, "DIR", m.dir, "REST", m.rest, "POSTGRES", m.postgres, "ETCD", client, "PROGRAMS", programs.Dir, "PASSWORD", canary).Replace(memberConfig)
		if err := os.WriteFile(m.dir+".yml", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		m.start(t)
		t.Cleanup(func() {
			m.end(t, syscall.SIGQUIT)
			if t.Failed() {
				log, _ := os.ReadFile(m.dir + ".log")
				t.Logf("the log of %s ends with:\n%s", m.name, log[max(0, len(log)-5000):])
			}
		})
		if i == 0 {
			eventually(t, "the first leader", func() bool { return c.find("leader") != nil })
		}
	}
	return c
}

const memberConfig = `
scope: mirror
name: NAME
restapi: {listen: "REST", connect_address: "REST"}
etcd3: {host: "ETCD"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    synchronous_mode: on
    postgresql:
      use_pg_rewind: true
  initdb: [{encoding: UTF8}, {locale: C}]
postgresql:
  listen: "POSTGRES"
  connect_address: "POSTGRES"
  data_dir: DIR
  bin_dir: PROGRAMS
  pgpass: DIR.pgpass
  authentication:
    superuser: {username: postgres, password: PASSWORD}
    replication: {username: replicator, password: PASSWORD}
    rewind: {username: rewinder, password: PASSWORD}
  pg_hba: [host all all 127.0.0.1/32 scram-sha-256, host replication all 127.0.0.1/32 scram-sha-256]
  parameters: {unix_socket_directories: "", shared_buffers: 16MB}
`

// find returns the member that has a role, nil if none says so.
func (c *cluster) find(role string) *member {
	for _, m := range c.members {
		client := http.Client{Timeout: 2 * time.Second}
		answer, err := client.Get("http://" + m.rest + "/" + role)
		if err != nil {
			continue
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return m
		}
	}
	return nil
}

func (m *member) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(m.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.patroni = exec.Command("patroni", m.dir+".yml")
	m.patroni.Dir = filepath.Dir(m.dir)
	m.patroni.Stdout, m.patroni.Stderr = log, log
	m.patroni.SysProcAttr = &syscall.SysProcAttr{Credential: m.account}
	if err := m.patroni.Start(); err != nil {
		t.Fatalf("%v: install patroni", err)
	}
}

// end kills Patroni and then, with a signal, its Postgres, and waits for both.
func (m *member) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	_ = m.patroni.Process.Kill()
	_ = m.patroni.Wait() // it was killed
	text, err := os.ReadFile(filepath.Join(m.dir, "postmaster.pid"))
	if err != nil {
		return // it has none, or is about to
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, signal)
	eventually(t, "the end of "+m.name, func() bool { return syscall.Kill(pid, 0) != nil })
}
