package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
	"polarmirror/internal/store"
)

// maxShown is how many findings of an organization are printed as a table; the
// JSON has them all.
const maxShown = 50

// errDifferent ends verify with exit code 1.
var errDifferent = errors.New("the mirror differs from Polar; syncd verify --repair mends what was found")

func (p *program) verifyCommand() *cobra.Command {
	var asJSON, repair bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read every page again and compare it with the mirror",
		Long: `Reads every page again, compares it digit by digit with the mirror, and prints
which rows are missing, extra or different. A difference counts only if it is
still there after the row was asked for by itself and the mirror was read again;
what changed at Polar since the last successful run is no difference. No row is
written and no lock is held, so it may run while the service does; only the
schema is brought up to date first, as the service does.

Exit code 1 means that a difference was found, also if --repair mended it.`,
		Example: "  syncd verify\n  syncd verify --walk\n  syncd verify --organization acme --json\n  syncd verify --repair\n  syncd verify --demo",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.verify(cmd.Context(), asJSON, repair)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of objects, one for each organization")
	cmd.Flags().BoolVar(&repair, "repair", false, "then mend what was found, row by row as Polar answers")
	cmd.Flags().BoolVar(&p.flags.walk, "walk", false, "prove by overlapping pages, whatever the size")
	p.demoFlag(cmd, "the demo's mirror and its simulated Polar, while no syncd --demo runs")
	return cmd
}

func (p *program) verify(ctx context.Context, asJSON, repair bool) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	p.openLog(cfg.Log, true)
	defer p.announceStop(ctx)()
	env, err := p.openEnv(ctx, cfg)
	if err != nil {
		return err
	}
	m, err := p.newMirror(env.cfg, env.db, env.source, p.newProgress(true))
	if err != nil {
		return err
	}
	var reports []mirror.Report
	failed := untilStopped(ctx, func() (err error) {
		reports, err = m.Verify(ctx, repair)
		return err
	})
	p.screen.Close()
	if asJSON {
		err = printVerifyJSON(p.stdout, reports)
	} else {
		err = printVerify(p.stdout, reports)
	}
	if err := errors.Join(failed, err); err != nil {
		return err
	}
	for i := range reports {
		if !reports[i].Equal() {
			if repair {
				return mended(reports)
			}
			return errDifferent
		}
	}
	return nil
}

// mended ends verify --repair with exit code 1.
func mended(reports []mirror.Report) error {
	done, left := 0, 0
	for i := range reports {
		r := &reports[i]
		done += r.Repaired
		left += len(r.Findings) - r.Repaired + r.Unread
	}
	if left > 0 {
		return fmt.Errorf("the mirror differed from Polar; %d rows have been mended and %d are left: run syncd --backfill, and then verify again", done, left)
	}
	return errors.New("the mirror differed from Polar; what was found has been mended")
}

func printVerify(out io.Writer, reports []mirror.Report) error {
	if len(reports) == 0 {
		return nil
	}
	table := console.Table{
		Columns: []string{"organization", "rows", "missing", "extra", "different", "changed since", "rejected", "repaired", "requests", "duration", "result"},
		Right:   []string{"rows", "missing", "extra", "different", "changed since", "rejected", "repaired", "requests", "duration"},
	}
	for i := range reports {
		r := &reports[i]
		counts := countFindings(r)
		result := "equal"
		if !r.Equal() {
			result = "different"
		}
		table.Rows = append(table.Rows, []string{
			r.Organization,
			console.Count(int64(r.Rows)),
			console.Count(counts[mirror.Missing]),
			console.Count(counts[mirror.Extra]),
			console.Count(counts[mirror.Different]),
			console.Count(int64(r.Behind)),
			console.Count(int64(r.Rejected)),
			console.Count(int64(r.Repaired)),
			console.Count(r.Requests),
			console.Span(r.Elapsed),
			result,
		})
	}
	if err := table.Print(out); err != nil {
		return err
	}
	for i := range reports {
		if err := printFindings(out, &reports[i]); err != nil {
			return err
		}
	}
	return nil
}

func countFindings(r *mirror.Report) map[mirror.FindingKind]int64 {
	counts := make(map[mirror.FindingKind]int64)
	for _, f := range r.Findings {
		counts[f.Kind]++
	}
	return counts
}

// printFindings names the rows: a line for each field that differs.
func printFindings(out io.Writer, r *mirror.Report) error {
	if r.Equal() {
		return nil
	}
	table := console.Table{Columns: []string{"customer meter", "finding", "field", "Polar", "mirror"}}
	for _, f := range r.Findings[:min(len(r.Findings), maxShown)] {
		if len(f.Fields) == 0 {
			table.Rows = append(table.Rows, []string{f.ID.String(), string(f.Kind), "", "", ""})
		}
		for _, d := range f.Fields {
			table.Rows = append(table.Rows, []string{f.ID.String(), string(f.Kind), d.Field, shorten(d.A), shorten(d.B)})
		}
	}
	if _, err := fmt.Fprintf(out, "\n%s:\n", r.Organization); err != nil {
		return err
	}
	if err := table.Print(out); err != nil {
		return err
	}
	if more := len(r.Findings) - maxShown; more > 0 {
		if _, err := fmt.Fprintf(out, "and %s more (--json has them)\n", console.Count(int64(more))); err != nil {
			return err
		}
	}
	if r.Unread > 0 {
		if _, err := fmt.Fprintf(out, "and %s that seemed to differ and were not read again: they are too many\n", console.Count(int64(r.Unread))); err != nil {
			return err
		}
	}
	if countFindings(r)[mirror.Extra] > 0 {
		_, err := fmt.Fprintln(out, "Extra rows are gone from Polar; the next full run marks those deleted that it first saw over ten minutes ago.")
		return err
	}
	return nil
}

// shorten keeps a cell of a table readable.
func shorten(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// A verifyReport is one organization in syncd verify --json.
type verifyReport struct {
	Organization string          `json:"organization"`
	Equal        bool            `json:"equal"`
	Exact        bool            `json:"exact"`
	Method       *store.Method   `json:"method"` // by which it is proven; null if it is not exact
	Rows         int             `json:"rows"`
	ChangedSince int             `json:"changed_since"`
	Rejected     int             `json:"rejected"`
	Repaired     int             `json:"repaired"`
	Requests     int64           `json:"requests"`
	Seconds      float64         `json:"seconds"`
	Unread       int             `json:"unread"`
	Findings     []verifyFinding `json:"findings"`
}

type verifyFinding struct {
	ID     uuid.UUID          `json:"id"`
	Kind   mirror.FindingKind `json:"kind"`
	Fields []fieldDifference  `json:"fields"`
}

type fieldDifference struct {
	Field  string `json:"field"`
	Polar  string `json:"polar"`
	Mirror string `json:"mirror"`
}

func printVerifyJSON(out io.Writer, reports []mirror.Report) error {
	list := []verifyReport{} // not nil: an empty array in JSON
	for i := range reports {
		r := &reports[i]
		v := verifyReport{
			Organization: r.Organization, Equal: r.Equal(), Exact: r.Exact, Rows: r.Rows, ChangedSince: r.Behind,
			Rejected: r.Rejected, Repaired: r.Repaired, Requests: r.Requests, Seconds: r.Elapsed.Seconds(), Unread: r.Unread,
			Findings: []verifyFinding{},
		}
		if r.Exact {
			v.Method = &r.Method
		}
		for _, f := range r.Findings {
			finding := verifyFinding{ID: f.ID, Kind: f.Kind, Fields: []fieldDifference{}}
			for _, d := range f.Fields {
				finding.Fields = append(finding.Fields, fieldDifference{Field: d.Field, Polar: d.A, Mirror: d.B})
			}
			v.Findings = append(v.Findings, finding)
		}
		list = append(list, v)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(list)
}
