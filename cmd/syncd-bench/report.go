package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"polarmirror/internal/console"
)

// A report is what a benchmark measured.
type report struct {
	Began    time.Time         `json:"began"`
	CPUs     int               `json:"cpus"`
	System   string            `json:"system"`
	Go       string            `json:"go"`
	Postgres string            `json:"postgres"`
	Settings map[string]string `json:"postgres_settings,omitempty"`
	Load     float64           `json:"load_at_start,omitempty"` // average of one minute; 0 if unknown
	Runs     int               `json:"runs"`
	Sizes    []*sizeReport     `json:"sizes,omitempty"`
	Costs    []*costReport     `json:"costs,omitempty"`
	Paced    *pacedReport      `json:"paced,omitempty"`
}

// A sizeReport is what was measured with so many customer meters.
type sizeReport struct {
	Rows     int     `json:"customer_meters"`
	NullRows int     `json:"never_modified"`
	RowBytes float64 `json:"json_bytes_per_row"`
	Phases   []phase `json:"phases"`
}

// empty reports whether nothing was measured.
func (r *report) empty() bool {
	return r.Paced == nil && len(r.Costs) == 0 && !slices.ContainsFunc(r.Sizes, func(s *sizeReport) bool { return len(s.Phases) > 0 })
}

func (s *sizeReport) phase(name string) (phase, bool) {
	for _, p := range s.Phases {
		if p.Name == name {
			return p, true
		}
	}
	return phase{}, false
}

// peak is the most memory that syncd took in any phase.
func (s *sizeReport) peak() int64 {
	var most int64
	for _, name := range []string{phaseFirst, phaseUnchanged, phaseChanged, phaseTick} {
		if p, ok := s.phase(name); ok {
			most = max(most, p.PeakBytes)
		}
	}
	return most
}

func (r *report) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		*report
		Criteria []criterion `json:"criteria"`
	}{r, r.criteria()})
}

func (r *report) print(w io.Writer) error {
	runs := ""
	if r.Runs > 1 {
		runs = fmt.Sprintf(", %d runs of each phase", r.Runs)
	}
	if _, err := fmt.Fprintf(w, "%s, %d CPUs, load %.1f at the start, %s, Postgres %s%s\n",
		r.System, r.CPUs, r.Load, r.Go, r.Postgres, runs); err != nil {
		return err
	}
	for _, s := range r.Sizes {
		if len(s.Phases) == 0 {
			continue
		}
		if err := s.print(w); err != nil {
			return err
		}
	}
	if err := r.printCosts(w); err != nil {
		return err
	}
	if p := r.Paced; p != nil {
		if _, err := fmt.Fprintf(w, "\n%s customer meters, paced: %s requests in %.1fs, which %d a minute dictate to take %.1fs; %d answers 429\n",
			count(p.Rows), count(int(p.Requests)), p.Seconds, polarLimit, p.Dictated, p.RateLimited); err != nil {
			return err
		}
	}
	return r.printCriteria(w)
}

func (r *report) printCosts(w io.Writer) error {
	if len(r.Costs) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\nCost at Polar, at %d requests a minute\n", polarLimit); err != nil {
		return err
	}
	numbers := []string{"requests", "/100 rows", "skipped rows", "statements", "takes", "peak MiB", "new versions"}
	t := console.Table{Columns: append([]string{"rows", "meters", ""}, numbers...), Right: append([]string{"rows", "meters"}, numbers...)}
	for _, c := range r.Costs {
		t.Rows = append(t.Rows, c.cells()...)
	}
	return t.Print(w)
}

func (s *sizeReport) print(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "\n%s customer meters of %.0f bytes of JSON, %d %% never modified\n",
		count(s.Rows), s.RowBytes, int(math.Round(100*float64(s.NullRows)/float64(s.Rows)))); err != nil {
		return err
	}
	numbers := []string{"rows/s", "in the run", "client µs/row", "Postgres s/M", "peak MiB", "requests", "WAL B/row", "new versions", "/download", "/COPY", "/plain", "others %"}
	t := console.Table{Columns: append([]string{""}, numbers...), Right: numbers}
	for _, p := range s.Phases {
		t.Rows = append(t.Rows, s.cells(p))
	}
	return t.Print(w)
}

// cells are a phase's line; what it has no notion of stays empty.
func (s *sizeReport) cells(p phase) []string {
	cells := []string{p.Title, "", "", "", "", fmt.Sprintf("%.1f", mib(p.PeakBytes)), "", "", "", "", "", "", ""}
	if p.Requests > 0 {
		cells[6] = count(int(p.Requests))
	}
	if p.NewVersions != nil {
		cells[8] = count(int(*p.NewVersions))
	}
	if p.Rows == 0 {
		cells[2] = fmt.Sprintf("%.0f ms", 1000*p.RunSeconds)
		cells[7] = fmt.Sprintf("%s B", count(int(p.WALBytes)))
		return cells
	}
	cells[1] = count(int(p.RowsPerSec))
	if p.RunRowsSec > 0 {
		cells[2] = count(int(p.RunRowsSec))
	}
	cells[3] = fmt.Sprintf("%.1f", p.ClientCPU)
	if p.ServerCPU != nil {
		cells[4] = fmt.Sprintf("%.1f", *p.ServerCPU)
		cells[12] = fmt.Sprintf("%.0f", 100**p.Others)
	} else {
		cells[4] = "n/a"
	}
	if p.Name != baseDownload {
		cells[7] = fmt.Sprintf("%.2f", *p.WALPerRow)
	}
	plain := plainUnchanged
	if p.Name == phaseFirst || p.Name == baseCopy || p.Name == baseDownload {
		plain = plainFirst
	}
	for i, name := range []string{baseDownload, baseCopy, plain} {
		if base, ok := s.phase(name); ok && base.Name != p.Name {
			cells[9+i] = fmt.Sprintf("%.2f", p.RowsPerSec/base.RowsPerSec)
		}
	}
	return cells
}

func (r *report) printCriteria(w io.Writer) error {
	t := console.Table{Columns: []string{"rows", "what", "measured", "target", ""}, Right: []string{"rows", "measured", "target"}}
	for _, c := range r.criteria() {
		rows, met, sign := "", "not met", "≥"
		if c.Rows > 0 {
			rows = count(c.Rows)
		}
		if c.Met {
			met = "met"
		}
		if c.Most {
			sign = "≤"
		}
		t.Rows = append(t.Rows, []string{rows, c.Name, number(c.Value), sign + " " + number(c.Target), met})
	}
	if len(t.Rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w, "\nTargets"); err != nil {
		return err
	}
	return t.Print(w)
}

// number writes a value with as many digits as matter.
func number(v float64) string {
	switch {
	case v == math.Trunc(v):
		return console.Count(int64(v))
	case v >= 100:
		return console.Count(int64(math.Round(v)))
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

func count(n int) string { return console.Count(int64(n)) }
