package polarsim

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// ErrUnknown is returned by changes to what does not exist.
var ErrUnknown = errors.New("not in the simulated Polar")

// SetUnits sets the quantities of a row to literal JSON numbers and moves its
// modified_at to now. Empty ones stay, except that an empty Balance is
// calculated. The numbers are taken as they are, however odd.
func (s *Server) SetUnits(id uuid.UUID, u Units) (Row, error) {
	return s.change(id, func(r *row) error {
		if u.Consumed == "" {
			u.Consumed = r.units.Consumed
		}
		if u.Credited == "" {
			u.Credited = r.units.Credited
		}
		if u.Balance == "" {
			balance, err := difference(u.Credited, u.Consumed)
			if err != nil {
				return err
			}
			u.Balance = balance
		}
		s.setUnits(r, u, s.after(r))
		return nil
	})
}

// Consume adds an amount, a JSON number, to the consumption of a row.
func (s *Server) Consume(id uuid.UUID, amount string) (Row, error) {
	return s.change(id, func(r *row) error { return s.consume(r, amount, s.after(r)) })
}

// Reset begins a new billing period: nothing is consumed yet.
func (s *Server) Reset(id uuid.UUID) (Row, error) {
	return s.change(id, func(r *row) error { return s.reset(r, s.after(r)) })
}

// Credit adds to the credited units of a row.
func (s *Server) Credit(id uuid.UUID, units int64) (Row, error) {
	return s.change(id, func(r *row) error { return s.credit(r, units, s.after(r)) })
}

// SetState sets quantities and modified_at, zero for null, to what a test wants
// them to be, such as an older state. Empty quantities stay.
func (s *Server) SetState(id uuid.UUID, u Units, modifiedAt time.Time) (Row, error) {
	return s.change(id, func(r *row) error {
		old := r.units
		if u.Consumed == "" {
			u.Consumed = old.Consumed
		}
		if u.Credited == "" {
			u.Credited = old.Credited
		}
		if u.Balance == "" {
			u.Balance = old.Balance
		}
		s.setUnits(r, u, nullable(modifiedAt))
		return nil
	})
}

// RestoreOlder takes back the last change of a row's units, modified_at
// included, as a database restored from a backup does. It is an error if the
// row has never changed.
func (s *Server) RestoreOlder(id uuid.UUID) (Row, error) {
	return s.change(id, func(r *row) error {
		if r.odd == nil || r.odd.older == nil {
			return fmt.Errorf("restore customer meter %s: it has not changed", id)
		}
		s.restore(r)
		return nil
	})
}

// change finds a row, changes it and returns it, as one step.
func (s *Server) change(id uuid.UUID, f func(r *row) error) (Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[id]
	if r == nil {
		return Row{}, fmt.Errorf("customer meter %s: %w", id, ErrUnknown)
	}
	if err := f(r); err != nil {
		return Row{}, fmt.Errorf("change customer meter %s: %w", id, err)
	}
	return snapshotOf(r), nil
}

// after is now, or just after the row's last change should the clock stand
// still: modified_at moves with every change.
func (s *Server) after(r *row) int64 { return later(s.now(), r) }

func later(now int64, r *row) int64 {
	if r.modified != never && r.modified >= now {
		return r.modified + 1
	}
	return max(now, r.created)
}

func (s *Server) setUnits(r *row, u Units, modified int64) {
	r.oddity().older = &state{units: r.units, modified: r.modified}
	s.edit([]*row{r}, func() { r.units, r.modified = u, modified })
	s.announce(r.customer, CustomerStateChanged)
}

// restore is told to nobody, as nobody at Polar knows of it.
func (s *Server) restore(r *row) {
	older := r.odd.older
	r.odd.older = nil
	s.edit([]*row{r}, func() { r.units, r.modified = older.units, older.modified })
}

func (s *Server) consume(r *row, amount string, modified int64) error {
	consumed, err := sum(r.units.Consumed, amount)
	if err != nil {
		return err
	}
	return s.settle(r, r.units.Credited, consumed, modified)
}

func (s *Server) reset(r *row, modified int64) error {
	return s.settle(r, r.units.Credited, "0", modified)
}

// credit stops at the largest 64-bit integer, as the column does.
func (s *Server) credit(r *row, units, modified int64) error {
	credited, err := strconv.ParseInt(r.units.Credited, 10, 64)
	if err != nil {
		return err
	}
	if total := credited + units; (units >= 0) == (total >= credited) {
		credited = total
	}
	return s.settle(r, strconv.FormatInt(credited, 10), r.units.Consumed, modified)
}

// settle sets credit and consumption and calculates the balance.
func (s *Server) settle(r *row, credited, consumed string, modified int64) error {
	balance, err := difference(credited, consumed)
	if err != nil {
		return err
	}
	s.setUnits(r, Units{Consumed: consumed, Credited: credited, Balance: balance}, modified)
	return nil
}
