package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

const (
	// fewSuspects are asked for whatever share of the rows they are.
	fewSuspects = 100
	// fewArchivedChecks and allArchivedChecks are how many archived meters a
	// scheduled walk and a backfill ask about: the first costs a request or two,
	// the second is thorough.
	fewArchivedChecks = 2
	allArchivedChecks = 1000
	// askAtOnce is how many rows are asked for before the answers are saved.
	askAtOnce = 100
)

// A DeletionError says that a walk found more rows gone than sync.max_delete_fraction allows.
// Nothing was marked.
type DeletionError struct {
	Missing, Live int
	Empty         bool // the organization listed nothing at all
}

func (e *DeletionError) Error() string {
	what := fmt.Sprintf("%d of %d live rows are no longer listed by Polar, more than sync.max_delete_fraction allows", e.Missing, e.Live)
	if e.Empty {
		what = fmt.Sprintf("Polar lists nothing, but the mirror has %d live rows", e.Live)
	}
	return what + "; nothing was marked deleted. Check the organization's id and token (syncd config check); if the rows are really gone, run syncd --backfill --accept-deletions"
}

// reconcile decides about the suspects of the whole run, which survive a crash: a
// resumed one has those found before it. It marks nothing that Polar, asked
// for the very row, does not answer with 404.
func (f *fullRun) reconcile(ctx context.Context) error {
	for _, step := range []func(context.Context) error{f.explainByScope, f.explainByMeter, f.checkDeletionLimit} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return f.eachSuspects(ctx, askAtOnce, func(suspects []store.Suspect) error {
		err := f.askSuspects(ctx, suspects)
		if err == nil {
			f.checkpoint()
		}
		return err
	})
}

// eachSuspects calls use with up to limit suspects at a time, those of one customer one
// after the other.
func (f *fullRun) eachSuspects(ctx context.Context, limit int, use func([]store.Suspect) error) error {
	var after store.Suspect
	for {
		suspects, err := f.run.session.Suspects(ctx, after, limit)
		if err != nil || len(suspects) == 0 {
			return err
		}
		after = suspects[len(suspects)-1]
		if err := use(suspects); err != nil {
			return err
		}
	}
}

// askSuspects asks for suspects and marks those that Polar does not have. None that is
// young is marked yet, so a walk does not ask for them; a sweep does, since it has to
// know whether to count them.
func (f *fullRun) askSuspects(ctx context.Context, suspects []store.Suspect) error {
	sweep := f.cursor.Method == store.Sweep
	young := map[uuid.UUID]bool{}
	var ids []uuid.UUID
	for _, s := range suspects {
		young[s.ID] = s.Young
		if !s.Young || sweep {
			ids = append(ids, s.ID)
		}
	}
	gone, err := f.run.ask(ctx, ids, false)
	if err != nil {
		return err
	}
	if err := f.run.checkToken(ctx, gone, f.listed); err != nil {
		return err
	}
	old := slices.DeleteFunc(slices.Clone(gone), func(id uuid.UUID) bool { return young[id] })
	if err := f.run.markDeleted(ctx, old); err != nil {
		return err
	}
	return f.run.session.AnswerSuspects(ctx, ids, gone)
}

// errBlind means that 404s prove nothing.
var errBlind = errors.New("the token may no longer see the organization: even rows that Polar has just listed answer 404, so nothing was marked deleted; check the organization's id and token (syncd config check)")

// checkToken asks for a row that was just listed, if others were answered with
// 404: a token that has lost the organization gets 404 for every row.
func (r *Run) checkToken(ctx context.Context, gone, listed []uuid.UUID) error {
	if len(gone) == 0 || len(listed) == 0 {
		return nil
	}
	found, err := r.firstThere(ctx, listed)
	if err == nil && found == nil {
		return errBlind
	}
	return err
}

// remember adds a row of the page to the last ones that were listed.
func remember(listed []uuid.UUID, page listedPage) []uuid.UUID {
	rows := page.Page.CustomerMeters
	if len(rows) == 0 {
		return listed
	}
	return append(listed[max(len(listed)-controls+1, 0):], rows[len(rows)/2].ID)
}

// explainByMeter asks for a suspect of each meter that Polar still has. If the meter turns out to
// be archived, none of its rows is listed and all of them still exist: only the
// meter has changed.
func (f *fullRun) explainByMeter(ctx context.Context) error {
	meters, err := f.run.session.SuspectMeters(ctx)
	if err != nil {
		return err
	}
	return f.askMeters(ctx, meters, func(meter uuid.UUID, found *fetch.Single) error {
		if found == nil || found.CustomerMeter == nil || found.CustomerMeter.Meter.ArchivedAt.IsZero() {
			return nil
		}
		return f.run.session.DropMeterSuspects(ctx, meter)
	})
}

// askMeters asks for one of the sampled rows of each meter until Polar has one, saves
// it, which saves its meter, and passes it to then; nil if Polar has none of them.
func (f *fullRun) askMeters(ctx context.Context, meters []store.MeterSample, then func(meter uuid.UUID, found *fetch.Single) error) error {
	for _, meter := range meters {
		found, err := f.run.firstThere(ctx, meter.Samples)
		if err == nil && found != nil {
			err = f.run.saveSingles(ctx, []*fetch.Single{found}, false)
		}
		if err == nil {
			err = then(meter.MeterID, found)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// firstThere asks for one row after the other until Polar has one; nil if it
// has none of them.
func (r *Run) firstThere(ctx context.Context, ids []uuid.UUID) (*fetch.Single, error) {
	for _, id := range ids {
		single, err := r.reader.client.Get(ctx, id)
		if !errors.Is(err, fetch.ErrNotFound) {
			return single, err
		}
	}
	return nil, nil
}

// checkArchived asks whether meters that the mirror takes for archived still
// are, by asking for one of their rows. Rows of an archived meter are not
// listed and so never suspects; should it be un-archived, and all of its rows
// gone by then, no page would ever tell. A meter of which Polar has none of the
// rows asked for has all of its rows suspected. A run does this before its first
// block, whose suspects depend on it, and a sweep again when ranks differ.
func (f *fullRun) checkArchived(ctx context.Context, checks int) error {
	if checks == 0 {
		return nil
	}
	meters, err := f.run.session.ArchivedMeters(ctx, checks)
	if err != nil {
		return err
	}
	return f.askMeters(ctx, meters, func(meter uuid.UUID, found *fetch.Single) error {
		if found != nil {
			return nil
		}
		return f.run.session.SuspectRowsOf(ctx, meter)
	})
}

// checkDeletionLimit refuses deletions on a scale that a wrong token or an outage
// explains better.
func (f *fullRun) checkDeletionLimit(ctx context.Context) error {
	meters, err := f.run.session.SuspectMeters(ctx)
	if err != nil || len(meters) == 0 || f.run.mirror.opts.AcceptDeletions {
		return err
	}
	missing := 0
	for _, m := range meters {
		missing += m.Count
	}
	live, err := f.run.session.LiveRows(ctx)
	if err != nil {
		return err
	}
	// A page at offset 0 ends every walk, resumed or not: if even that showed
	// nothing, the token sees nothing, and its 404s mean nothing.
	empty := f.seen == 0
	if empty || (missing >= fewSuspects && float64(missing) > f.run.mirror.opts.MaxDeleteFraction*float64(live)) {
		return &DeletionError{Missing: missing, Live: live, Empty: empty}
	}
	return nil
}

// askAgain asks for rows that were listed with an older state than the mirror
// has. If Polar still says the older, Polar wins: its database was restored, or
// its clock set back.
func (r *Run) askAgain(ctx context.Context, older []uuid.UUID) error {
	for ids := range slices.Chunk(older, askAtOnce) {
		if _, err := r.ask(ctx, ids, false); err != nil {
			return err
		}
	}
	return nil
}

// ask gets the rows one by one, saves what Polar answers, and returns those
// that Polar does not have. With rewrite it writes the nested customers and
// meters even if they look as they did, should the mirror have been tampered
// with.
func (r *Run) ask(ctx context.Context, ids []uuid.UUID, rewrite bool) (gone []uuid.UUID, err error) {
	singles, err := r.reader.get(ctx, ids)
	if err != nil {
		return nil, err
	}
	var there []*fetch.Single
	for i, single := range singles {
		if single == nil {
			gone = append(gone, ids[i])
			continue
		}
		there = append(there, single)
	}
	return gone, r.saveSingles(ctx, there, rewrite)
}

// saveSingles saves rows that were asked for by id. They are written even if
// they are older than what the mirror has.
func (r *Run) saveSingles(ctx context.Context, singles []*fetch.Single, rewrite bool) error {
	if len(singles) == 0 {
		return nil
	}
	var b block
	for _, s := range singles {
		page := &polar.Page{}
		if s.CustomerMeter != nil {
			page.CustomerMeters = []polar.CustomerMeter{*s.CustomerMeter}
		}
		if s.Rejected != nil {
			page.Rejected = []polar.RejectedRow{*s.Rejected}
		}
		r.reader.rejectForeign(page)
		b.add(listedPage{Listing: &fetch.Listing{Page: page, Timing: s.Timing}}, nil)
	}
	b.Force, b.Rewrite = true, rewrite
	_, err := r.save(ctx, b.take())
	return err
}

// fingerprint is what a full run was asked to read, and whether it has to walk. A
// cursor that belongs to another one is not resumed, nor does such a run count for a
// backfill.
func (w *worker) fingerprint() string {
	opts := w.mirror.opts
	text, _ := json.Marshal([]any{opts.Source, w.org.Filter, opts.Walk, polar.DecoderVersion, opts.Exclude}) // of strings and uuids: cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
