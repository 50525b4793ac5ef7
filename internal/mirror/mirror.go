package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// An Organization is one to be mirrored.
type Organization struct {
	Name   string
	ID     uuid.UUID // zero: learned from what its token sees
	Client *fetch.Client
	Filter Filter

	Webhooks bool // Polar sends them here
}

// A Filter restricts what is read and mirrored.
type Filter = store.Filter

// Options are what a Mirror needs.
type Options struct {
	Organizations []Organization
	Store         *store.Store
	Log           *zap.Logger
	Progress      []Progress
	Observer      Observer // nil: none

	// Source names what is read (base URL and API version). A walk begun on
	// another source is not resumed.
	Source string

	Concurrency       int     // organizations worked at a time; 0 means 4
	Walk              bool    // full runs and verify walk the whole list, whatever its size
	WalkedRows        int     // listed rows up to which they do anyway; 0 means 5000
	WholeRankRows     int     // rows up to which ranks are compared over the whole list; 0 means 3,000,000
	PageSize          int     // rows a request asks for at most; 0 means Polar's maximum
	BlockRows         int     // rows saved together; a crash costs twice as many at most; 0 means 2000
	PagesInFlight     int     // requests in flight per organization; 0 means 8
	MaxDeleteFraction float64 // of live rows a walk may mark deleted, from 100 suspects on
	AcceptDeletions   bool    // lifts that limit

	// Exclude are members of customers that webhooks are decoded and kept without,
	// as the clients do it with what they read.
	Exclude []string
}

// A Mirror keeps the organizations' customer meters in Postgres.
type Mirror struct {
	opts     Options
	store    *store.Store
	log      *zap.Logger
	progress progresses
	observer Observer
	outage   outage
	serving  time.Time // when Serve began; zero unless it runs
	notices  *notices  // nil: nobody is told
}

// New returns a Mirror.
func New(opts Options) (*Mirror, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	return &Mirror{
		opts:     opts,
		store:    opts.Store,
		log:      opts.Log,
		progress: opts.Progress,
		observer: opts.Observer,
		notices:  newNotices(opts.Store, opts.Log),
	}, nil
}

// check checks the options and fills in what is left out.
func (o *Options) check() error {
	if len(o.Organizations) == 0 {
		return errors.New("no organization to mirror: name at least one under organizations")
	}
	if o.PageSize != 0 && o.PageSize < minPageSize {
		return fmt.Errorf("page size %d: want at least %d", o.PageSize, minPageSize)
	}
	if o.MaxDeleteFraction < 0 || o.MaxDeleteFraction > 1 {
		return fmt.Errorf("max_delete_fraction %v: want a number from 0 to 1", o.MaxDeleteFraction)
	}
	o.Concurrency = orDefault(o.Concurrency, 4)
	o.PagesInFlight = orDefault(o.PagesInFlight, 8)
	o.WholeRankRows = orDefault(o.WholeRankRows, wholeRankRows)
	o.WalkedRows = orDefault(o.WalkedRows, walkedRows)
	o.PageSize = min(orDefault(o.PageSize, polar.MaxPageSize), polar.MaxPageSize)
	o.BlockRows = orDefault(o.BlockRows, 2000)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	return nil
}

// minPageSize is the least number of rows a page may have. A page that reaches
// below an offset exists only if the offset is no multiple of every possible
// limit: with 7 that holds up to offset 419, with 25 up to some billions.
const minPageSize = 7

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Backfill walks every organization once, waiting for those that another syncd
// is working on. One organization's failure does not stop the others; the error
// joins all of them, each naming its organization.
//
// A backfill that was cut short is gone on with: organizations it had finished
// are left out, the others resume below their last saved block.
func (m *Mirror) Backfill(ctx context.Context) error {
	backfill, err := m.store.StartBackfill(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(m.opts.Organizations))
	var group errgroup.Group
	group.SetLimit(m.opts.Concurrency)
	for i, org := range m.opts.Organizations {
		group.Go(func() error {
			errs[i] = m.backfill(ctx, org, backfill)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
	m.notices.flush(ctx)
	if ctx.Err() == nil {
		errs = append(errs, m.store.FinishBackfill(ctx, backfill))
	}
	return errors.Join(errs...)
}

// repeats is how often a backfill goes on after the database was lost, or
// begins anew after a walk that could not prove that it saw everything.
const repeats = 5

// backfill walks one organization. A lost database connection takes the lock
// with it; the walk then goes on from its last block on a new one.
func (m *Mirror) backfill(ctx context.Context, org Organization, backfill store.Backfill) error {
	w := m.worker(org)
	for attempt := 1; ; attempt++ {
		err := w.withSession(ctx, true, func(session *store.Session) error {
			done, err := session.Backfilled(ctx, backfill, m.opts.Walk)
			if err != nil {
				return err
			}
			if done {
				w.log.Info("walked already by the backfill that was cut short")
				return nil
			}
			return w.backfillRun(ctx, session)
		})
		if err == nil {
			return nil
		}
		again := lostDatabase(err) || errors.Is(err, ErrNotProven)
		if !again || attempt > repeats || ctx.Err() != nil {
			return fmt.Errorf("organization %s: %w", org.Name, err)
		}
		wait := time.Second << attempt
		if !lostDatabase(err) {
			wait = 0 // the list has shifted, nothing is down
		}
		w.log.Warn("backfill repeated", zap.Int("attempt", attempt), zap.Duration("wait", wait), zap.Error(err))
		if err := sleep(ctx, wait); err != nil {
			return fmt.Errorf("organization %s: %w", org.Name, ErrStopped)
		}
	}
}

// backfillRun makes a full run and, if it went on from where an earlier one ended,
// reads what changed since that one began.
func (w *worker) backfillRun(ctx context.Context, session *store.Session) error {
	f, err := finish(w.full(ctx, session, fullOptions{kind: store.Full, archivedChecks: allArchivedChecks}))
	if err == nil && f.resumed {
		err = w.tick(ctx, session, time.Time{}, true)
	}
	return err
}

// lostDatabase reports whether err is about the connection to Postgres, and not
// about one to Polar, whose requests have been retried already.
func lostDatabase(err error) bool {
	var request *fetch.RequestError
	var status *fetch.StatusError
	return store.Broken(err) && !errors.As(err, &request) && !errors.As(err, &status)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// A worker does one organization's runs, one at a time.
type worker struct {
	mirror     *Mirror
	org        Organization // its ID is known once it was identified
	identified bool
	log        *zap.Logger
	pace       *pace
}

func (m *Mirror) worker(org Organization) *worker {
	return &worker{
		mirror: m,
		org:    org,
		log:    m.log.With(zap.String("organization", org.Name)),
		pace:   newPace(m.opts.PagesInFlight),
	}
}

// reader returns what reads the organization, its requests counted by counters.
func (w *worker) reader(counters *fetch.Counters) reader {
	return reader{
		org:    w.org,
		client: w.org.Client.Counting(counters),
		pace:   w.pace,
		opts:   &w.mirror.opts,
		log:    w.log,
	}
}

// withSession calls use with the organization's lock held. With wait it waits
// for another syncd to give the lock back; without it returns [store.ErrBusy].
func (w *worker) withSession(ctx context.Context, wait bool, use func(*store.Session) error) error {
	return w.with(ctx, use, func() (*store.Session, error) {
		return w.mirror.store.Acquire(ctx, w.org.ID, wait)
	})
}

// withSlot is withSession for a run that answers slot. It returns
// [store.ErrSlotTaken] if there is one.
func (w *worker) withSlot(ctx context.Context, kind store.Kind, slot time.Time, use func(*store.Session) error) error {
	return w.with(ctx, use, func() (*store.Session, error) {
		return w.mirror.store.AcquireSlot(ctx, w.org.ID, kind, slot)
	})
}

func (w *worker) with(ctx context.Context, use func(*store.Session) error, acquire func() (*store.Session, error)) error {
	if err := w.identify(ctx); err != nil {
		return err
	}
	session, err := acquire()
	if err != nil {
		return err
	}
	defer session.Release()
	return use(session)
}

// identify finds out which organization the token belongs to, if the
// configuration doesn't say, and registers it.
func (w *worker) identify(ctx context.Context) error {
	if w.identified {
		return nil
	}
	if w.org.ID == uuid.Nil {
		id, err := w.discover(ctx)
		if err != nil {
			return err
		}
		w.org.ID = id
	}
	if err := w.mirror.store.RegisterOrganization(ctx, w.org.ID, w.org.Name); err != nil {
		return err
	}
	w.identified = true
	return nil
}

func (w *worker) discover(ctx context.Context) (uuid.UUID, error) {
	listing, err := w.org.Client.List(ctx, fetch.ListParams{Page: 1, Limit: 1})
	if err != nil {
		return uuid.Nil, err
	}
	if rows := listing.Page.CustomerMeters; len(rows) > 0 {
		return rows[0].Meter.OrganizationID, nil
	}
	id, known, err := w.mirror.store.OrganizationID(ctx, w.org.Name)
	if err != nil {
		return uuid.Nil, err
	}
	if !known {
		return uuid.Nil, errors.New("its token sees no customer meters, so its id cannot be learned from them: set the organization's id (POLAR_ORGANIZATION_ID)")
	}
	return id, nil
}

// status is how the organization stands.
func (w *worker) status(ctx context.Context) (store.OrgStatus, error) {
	list, err := w.mirror.store.OrgStatus(ctx, store.OrgStatusQuery{Organizations: []store.Organization{{Name: w.org.Name, ID: w.org.ID}}})
	if err != nil {
		return store.OrgStatus{}, err
	}
	return list[0], nil
}
