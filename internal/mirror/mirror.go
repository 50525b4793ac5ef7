package mirror

import (
	"cmp"
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
	Progress      Progress // nil: nobody is told
	Observer      Observer // nil: none

	// Source names what is read (base URL and API version). A walk begun on
	// another source is not resumed.
	Source string

	Concurrency       int     // organizations worked at a time; 0 means 4
	Walk              bool    // full runs and verify walk the whole list, whatever its size
	WalkedRows        int     // listed rows up to which they do anyway; 0 means 5000
	PageSize          int     // rows a request asks for at most, 7 or more; 0 means Polar's maximum
	BlockRows         int     // rows saved together, and twice the customers; a crash costs twice as many at most; 0 means 4000
	PagesInFlight     int     // requests in flight per organization; 0 means 8
	MaxDeleteFraction float64 // of live rows a walk may mark deleted, from 100 suspects on
	AcceptDeletions   bool    // lifts that limit

	// Exclude are members of customers that webhooks are decoded and kept without,
	// as the clients do it with what they read. A full run begun with another list is
	// not resumed.
	Exclude []string
}

// A Mirror keeps the organizations' customer meters in Postgres.
type Mirror struct {
	opts    Options
	outage  outage
	serving time.Time // when Serve began; zero unless it runs
	notices *notices  // nil: nobody is told
}

// New returns a Mirror.
func New(opts Options) *Mirror {
	opts.Concurrency = cmp.Or(opts.Concurrency, 4)
	opts.PagesInFlight = cmp.Or(opts.PagesInFlight, 8)
	opts.WalkedRows = cmp.Or(opts.WalkedRows, walkedRows)
	opts.PageSize = cmp.Or(opts.PageSize, polar.MaxPageSize)
	opts.BlockRows = cmp.Or(opts.BlockRows, 4000)
	opts.Log = cmp.Or(opts.Log, zap.NewNop())
	opts.Progress = cmp.Or[Progress](opts.Progress, noProgress{})
	opts.Observer = cmp.Or[Observer](opts.Observer, noObserver{})
	return &Mirror{opts: opts, notices: newNotices(opts.Store, opts.Log)}
}

// Backfill makes one full run of every organization, waiting for those that another syncd
// is working on. One organization's failure does not stop the others; the error
// joins all of them, each naming its organization.
//
// It resumes a backfill that was interrupted: organizations it had finished
// are left out, the others resume below their last saved block, and for both, what
// changed since is read as well. If the configuration asks for something else now, such
// as another filter, the organization begins anew.
func (m *Mirror) Backfill(ctx context.Context) error {
	backfill, err := m.opts.Store.StartBackfill(ctx)
	if err != nil {
		return err
	}
	err = m.forEach(ctx, m.opts.Concurrency, func(w *worker) error { return w.backfill(ctx, backfill) })
	if ctx.Err() == nil {
		err = errors.Join(err, m.opts.Store.FinishBackfill(ctx, backfill))
	}
	return err
}

// forEach does something for each organization, at most so many at a time and in their
// order, and then waits until listeners were told of it. The error joins those of all
// organizations.
func (m *Mirror) forEach(ctx context.Context, atATime int, do func(*worker) error) error {
	defer m.notices.start(ctx)()
	errs := make([]error, len(m.opts.Organizations))
	var group errgroup.Group
	group.SetLimit(atATime)
	for i, org := range m.opts.Organizations {
		group.Go(func() error {
			if err := do(m.worker(org)); err != nil {
				errs[i] = fmt.Errorf("organization %s: %w", org.Name, err)
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
	return errors.Join(errs...)
}

// repeats is how often a backfill goes on after the database was lost, or
// begins anew after a run that could not prove that it saw everything.
const repeats = 5

// backfill makes one organization's full run. A lost database connection takes the lock
// with it; the run then goes on from its last block on a new one.
func (w *worker) backfill(ctx context.Context, backfill store.Backfill) error {
	for attempt := 1; ; attempt++ {
		err := w.withSession(ctx, true, func(session *store.Session) error {
			done, err := session.Backfilled(ctx, backfill, w.fingerprint())
			switch {
			case err != nil:
				return err
			case done:
				w.log.Info("done already by the backfill that was cut short")
				return w.tick(ctx, session, time.Time{}, true) // what was read then may have changed since
			}
			return w.full(ctx, session, fullOptions{kind: store.Full, archivedChecks: allArchivedChecks})
		})
		again := lostDatabase(err) || errors.Is(err, ErrNotProven)
		if !again || attempt > repeats || ctx.Err() != nil {
			return err
		}
		wait := time.Second << attempt
		if !lostDatabase(err) {
			wait = 0 // the list has shifted, nothing is down
		}
		w.log.Warn("backfill repeated", zap.Int("attempt", attempt), zap.Duration("wait", wait), zap.Error(err))
		if sleep(ctx, wait) != nil {
			return ErrStopped
		}
	}
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
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
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
		log:    m.opts.Log.With(zap.String("organization", org.Name)),
		pace:   newPace(m.opts.PagesInFlight),
	}
}

// reader returns what reads the organization, its requests counted by counters.
func (w *worker) reader(counters *fetch.Counters) reader {
	return reader{worker: w, client: w.org.Client.Counting(counters)}
}

// withSession calls use with the organization's lock held. With wait it waits
// for another syncd to give the lock back; without it returns [store.ErrBusy].
func (w *worker) withSession(ctx context.Context, wait bool, use func(*store.Session) error) error {
	return w.with(ctx, use, func() (*store.Session, error) {
		session, err := w.mirror.opts.Store.Acquire(ctx, w.org.ID, false)
		if wait && errors.Is(err, store.ErrBusy) {
			w.log.Info("waiting for another syncd", zap.String("reason", store.ErrBusy.Error()))
			session, err = w.mirror.opts.Store.Acquire(ctx, w.org.ID, true)
		}
		return session, err
	})
}

// withSlot is withSession for a run that answers slot. It returns
// [store.ErrSlotTaken] if there is one.
func (w *worker) withSlot(ctx context.Context, kind store.Kind, slot time.Time, use func(*store.Session) error) error {
	return w.with(ctx, use, func() (*store.Session, error) {
		return w.mirror.opts.Store.AcquireSlot(ctx, w.org.ID, kind, slot)
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
	if err := w.mirror.opts.Store.RegisterOrganization(ctx, w.org.ID, w.org.Name); err != nil {
		return err
	}
	w.identified = true
	return nil
}

func (w *worker) discover(ctx context.Context) (uuid.UUID, error) {
	if id, err := visible(ctx, w.org.Client); err != nil || id != uuid.Nil {
		return id, err
	}
	// The label then means the same organization as before.
	last, err := w.mirror.status(ctx, w.org)
	if err != nil {
		return uuid.Nil, err
	}
	if last.OrganizationID == uuid.Nil {
		return uuid.Nil, errors.New("its token sees no customer meters, so its id cannot be learned from them: set the organization's id (POLAR_ORGANIZATION_ID)")
	}
	return last.OrganizationID, nil
}

// skipped tells the observer that a scheduled time passed without a run.
func (w *worker) skipped(why Skip) { w.mirror.opts.Observer.Skipped(w.org.Name, why) }

// status is how the organization stands.
func (m *Mirror) status(ctx context.Context, org Organization) (store.OrgStatus, error) {
	list, err := m.opts.Store.OrgStatus(ctx, store.OrgStatusQuery{Organizations: []store.Organization{{Name: org.Name, ID: org.ID}}})
	if err != nil {
		return store.OrgStatus{}, err
	}
	return list[0], nil
}
