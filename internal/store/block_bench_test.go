package store_test

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
)

// listed returns n customer meters as Polar shows them, decoded page by page.
func listed(tb testing.TB, n int) []*polar.CustomerMeter {
	tb.Helper()
	sim := polarsim.New(polarsim.Options{Seed: 1, Organizations: []polarsim.Organization{{Name: "acme", ID: organization, CustomerMeters: n}}})
	var rows []*polar.CustomerMeter
	all := sim.Listed(organization)
	for at := 0; at < len(all); at += polar.MaxPageSize {
		var body bytes.Buffer
		body.WriteString(`{"items":[`)
		for i, row := range all[at:min(at+polar.MaxPageSize, len(all))] {
			if i > 0 {
				body.WriteByte(',')
			}
			body.WriteString(row.JSON)
		}
		fmt.Fprintf(&body, `],"pagination":{"total_count":%d,"max_page":1}}`, len(all))
		page, err := polar.NewDecoder().Page(body.Bytes())
		if err != nil {
			tb.Fatal(err)
		}
		for i := range page.CustomerMeters {
			rows = append(rows, &page.CustomerMeters[i])
		}
	}
	return rows
}

// saveAll saves rows in blocks of size, from the end of the list as a walk does.
func saveAll(tb testing.TB, s *store.Session, run *store.Run, rows []*polar.CustomerMeter, size int) {
	tb.Helper()
	for end := len(rows); end > 0; end -= size {
		part := rows[max(0, end-size):end]
		block := &store.Block{CustomerMeters: part, Region: &store.Region{Low: part[0].Key(), High: part[len(part)-1].Key()}}
		save(tb, s, run, block)
	}
}

func BenchmarkSaveBlocks(b *testing.B) {
	rows := listed(b, 100_000)
	for _, size := range []int{1000, 2000, 5000, 10_000} {
		for _, phase := range []string{"first", "unchanged"} {
			b.Run(phase+"/rows="+strconv.Itoa(size), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					st, db := pgtest.NewStore(b)
					s := openOn(b, st)
					run := start(b, s, store.Full)
					if phase == "unchanged" {
						saveAll(b, s, run, rows, size)
						vacuum(b, db)
					}
					b.StartTimer()
					saveAll(b, s, run, rows, size)
					b.StopTimer()
					s.Release()
					b.StartTimer()
				}
				b.ReportMetric(float64(len(rows)*b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

func vacuum(tb testing.TB, db *pgtest.Database) {
	tb.Helper()
	if _, err := db.Pool.Exec(tb.Context(), `VACUUM ANALYZE`); err != nil {
		tb.Fatal(err)
	}
}
