package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

const (
	demoSeed    = 2026
	demoLatency = 15 * time.Millisecond
	// demoCostScale makes deep pages slower, as they are at Polar.
	demoCostScale = 0.5
	// demoStep is how often something happens at the simulated Polar.
	demoStep = 2 * time.Second
	// demoSource stands for the base URL, whose port is another one each time,
	// so that an interrupted walk is resumed.
	demoSource = "demo"
	// demoPast is how much of the simulated past the history begins with, and demoLook
	// how often somebody would have looked then: once a day would miss the usage of the
	// day on which balances are reset.
	demoPast = 45 * 24 * time.Hour
	demoLook = 12 * time.Hour
	// demoQuota is what both sides keep to, in requests a minute: enough for
	// the demo to be over soon.
	demoQuota = 30_000
)

// demoOrganizations are the sellers at the simulated Polar.
func demoOrganizations() []polarsim.Organization {
	return []polarsim.Organization{
		{Name: "acme", CustomerMeters: 6_000},
		{Name: "globex", CustomerMeters: 1_500, Meters: 4},
		{Name: "initech", CustomerMeters: 60, Meters: 3},
	}
}

// demoConfig is the configuration of --demo; openDemo fills in what only the
// running simulation knows. It depends on no file and no environment.
func demoConfig() *config.Config {
	cfg := config.Default()
	cfg.Source = "--demo"
	for _, o := range demoOrganizations() {
		cfg.Organizations = append(cfg.Organizations, config.Organization{Name: o.Name})
	}
	cfg.Polar.RequestsPerMinute = demoQuota
	cfg.Polar.Concurrency = 2
	cfg.Database.DataDir = filepath.Join(cfg.Database.DataDir, "demo")
	cfg.Schedule.Incremental = "@every 10s"
	cfg.Schedule.Full = "@every 1m"
	return cfg
}

// A demo is a simulated Polar in this process.
type demo struct {
	*polarsim.Demo
	address string
}

// openDemo serves the simulated Polar and fills in cfg's address, ids and tokens.
func (p *program) openDemo(cfg *config.Config) (*demo, error) {
	sim := polarsim.NewDemo(polarsim.Options{
		Seed:              demoSeed,
		Organizations:     demoOrganizations(),
		RequestsPerMinute: 2 * demoQuota,
		Latency:           demoLatency,
		CostScale:         demoCostScale,
	})
	running, err := sim.Start()
	if err != nil {
		return nil, err
	}
	p.onClose(func(context.Context) error { return running.Close() })
	cfg.Polar.BaseURL = running.URL
	for _, simulated := range sim.Organizations() {
		for i := range cfg.Organizations {
			if o := &cfg.Organizations[i]; o.Name == simulated.Name {
				o.ID = simulated.ID
				o.AccessToken.Value = secret.New(simulated.Token)
				o.WebhookSecret.Value = secret.New(web.GeneratedSecretPrefix + base64.StdEncoding.EncodeToString([]byte("demo of "+o.Name)))
			}
		}
	}
	return &demo{Demo: sim, address: running.URL}, nil
}

// writePast begins the history with the past, which only a simulated Polar can tell,
// so that charts and questions about time mean something in the first second.
func (d *demo) writePast(ctx context.Context, db *store.Store, organizations []config.Organization) error {
	now := time.Now()
	for _, org := range organizations {
		err := db.AddSimulatedPast(ctx, org.ID, func() (states []store.PastState, err error) {
			for s := range d.Past(org.ID, now.Add(-demoPast), now.Add(-demoLook), demoLook) {
				state, err := pastState(s)
				if err != nil {
					return nil, err
				}
				states = append(states, state)
			}
			return states, nil
		})
		if err != nil {
			return fmt.Errorf("past of %s: %w", org.Name, err)
		}
	}
	return nil
}

func pastState(s polarsim.State) (past store.PastState, err error) {
	past = store.PastState{CustomerMeterID: s.CustomerMeterID, SeenAt: s.SeenAt, ModifiedAt: s.ModifiedAt}
	if past.ConsumedUnits, err = polar.ParseDecimal(s.Units.Consumed); err != nil {
		return past, err
	}
	if past.CreditedUnits, err = strconv.ParseInt(s.Units.Credited, 10, 64); err != nil {
		return past, err
	}
	past.Balance, err = polar.ParseDecimal(s.Units.Balance)
	return past, err
}

// sendWebhooks has the simulated Polar send webhooks to base, such as
// http://127.0.0.1:8080/, until what it returns is closed.
func (d *demo) sendWebhooks(cfg *config.Config, base string) *polarsim.Webhooks {
	o := polarsim.WebhookOptions{Seed: demoSeed, MaxDelay: time.Second, Duplicates: 0.02, Late: 0.05}
	for _, org := range cfg.Organizations {
		o.Endpoints = append(o.Endpoints, polarsim.WebhookEndpoint{
			OrganizationID: org.ID,
			URL:            strings.TrimSuffix(base, "/") + web.WebhookPath + org.Name,
			Secret:         org.WebhookSecret.Value.Reveal(),
			Generated:      true,
		})
	}
	return d.StartWebhooks(o)
}

// introduction tells a newcomer what runs and how to watch it.
func (e *env) introduction(url string) string {
	return fmt.Sprintf(`A simulated Polar runs in this process at %s, with 45 days of its past in the history. Its
customer meters change every few seconds; webhooks bring the changes into Postgres at once, a tick every 10s what
they missed, and a full run every minute proves that nothing is missing.
Status page: %s (health: %shealthz/data, metrics: %smetrics)

Open the database in another terminal:

  %s

and repeat this query to see rows change:

%s

Ctrl-C ends it.

`, e.demo.address, url, url, url, e.psql, indent(latestChanges))
}

// latestChanges is worth repeating while rows change.
const latestChanges = `SELECT
    organization,
    customer_name,
    meter_name,
    consumed_units,
    balance,
    change_seen_at
  FROM polar.customer_meter_overview
 ORDER BY change_seen_at DESC
 LIMIT 5;`

// shownQueries are those that the demo runs and prints with their results: about
// everything, and about one organization.
func shownQueries(organization string) []string {
	return []string{
		`-- Who runs out next, at the pace of the last seven days
SELECT
    o.organization,
    o.customer_name,
    o.meter_name,
    o.balance,
    round(b.units_per_day, 2) AS units_per_day,
    to_char(b.zero_at, 'FMMonth FMDD, HH24:MI') AS zero_at
  FROM polar.burn_rate b
  JOIN polar.customer_meter_overview o USING (customer_meter_id)
 WHERE b.zero_at IS NOT NULL
 ORDER BY b.zero_at
 LIMIT 5;`,
		`-- What ` + organization + `'s customers used in the last seven days, and in the seven before
SELECT
    m.name AS meter_name,
    count(DISTINCT u.customer_id) AS customers,
    trim_scale(sum(u.consumed_units) FILTER (WHERE u.day > (now() AT TIME ZONE 'UTC')::date - 7)) AS last_week,
    trim_scale(sum(u.consumed_units) FILTER (WHERE u.day <= (now() AT TIME ZONE 'UTC')::date - 7)) AS week_before
  FROM polar.usage_daily u
  JOIN polar.meters m ON m.id = u.meter_id
  JOIN polar.organizations o ON o.id = u.organization_id
 WHERE o.name = '` + organization + `'
   AND u.day > (now() AT TIME ZONE 'UTC')::date - 14
 GROUP BY m.name
 ORDER BY m.name;`,
	}
}

// demoQueries runs the demo's queries and returns each with its result.
func (e *env) demoQueries(ctx context.Context) (text string, err error) {
	for _, sql := range shownQueries(e.cfg.Organizations[0].Name) {
		result, err := e.db.Query(ctx, sql)
		if err != nil {
			return "", err
		}
		table := console.Table{
			Columns: result.Columns,
			Right:   []string{"balance", "units_per_day", "customers", "last_week", "week_before"},
		}
		for _, row := range result.Rows {
			table.Add(row...)
		}
		text += fmt.Sprintf("\n%s\n\n%s", indent(sql), &table)
	}
	return text, nil
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}
