package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Errors a caller may branch on.
var (
	// ErrBusy means that another syncd is working on the organization.
	ErrBusy = errors.New("organization is being worked on by another syncd")
	// ErrSlotTaken means that the scheduled time has been answered already.
	ErrSlotTaken = errors.New("scheduled time has been answered already")
	// ErrReadOnly means that the server accepts no writes: it is a standby, or a
	// primary that was demoted.
	ErrReadOnly = errors.New("database is read-only: point database.url at the primary server or, if that is it, reset default_transaction_read_only for this role and database")
)

// An UnusableError says that the database cannot be reached, does not let this user
// in, or lacks what syncd needs. Its text names user, host, port and database, never
// a password.
type UnusableError struct {
	Problem string // what is wrong, and the remedy, on one line
}

func (e *UnusableError) Error() string { return e.Problem }

// A SchemaError says that this binary cannot use the schema.
type SchemaError struct {
	Problem  string // what is wrong, and the remedy
	Obsolete bool   // it is from before the first release, and can only be dropped
}

func (e *SchemaError) Error() string { return "database schema: " + e.Problem }

// unreachable describes err without anything secret of cfg.
func unreachable(cfg *pgx.ConnConfig, err error) error {
	cause, down := connectCause(err)
	if down {
		return &UnusableError{target(cfg) + " cannot be reached: " + cause + "; check database.url (DATABASE_URL) and that the server is up"}
	}
	return &UnusableError{target(cfg) + " cannot be used: " + cause + "; check database.url (DATABASE_URL)"}
}

// unsuitable is the error of a database that answers but syncd cannot use.
func unsuitable(cfg *pgx.ConnConfig, problem string) error {
	return &UnusableError{target(cfg) + " is not suitable: " + problem}
}

// target names the database, without a password.
func target(cfg *pgx.ConnConfig) string {
	return fmt.Sprintf("database %s@%s/%s", cfg.User, net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)), cfg.Database)
}

// connectCause says what was observed, and whether nothing answered. For other
// errors it says what pgx says, which keeps the password out.
func connectCause(err error) (cause string, down bool) {
	var pgErr *pgconn.PgError
	var opErr *net.OpError
	var dnsErr *net.DNSError
	var connectErr *pgconn.ConnectError
	switch {
	case errors.As(err, &pgErr):
		cause = fmt.Sprintf("%s (SQLSTATE %s)", oneLine(pgErr.Message), pgErr.Code)
		if cure := cures[pgErr.Code]; cure != "" {
			cause += "; " + cure
		}
		return cause, false
	case errors.As(err, &dnsErr):
		return "host not found", true
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time", true
	case errors.As(err, &opErr):
		return oneLine(opErr.Err.Error()), true
	case errors.As(err, &connectErr):
		err = connectErr.Unwrap()
	}
	cause = oneLine(err.Error())
	if strings.Contains(cause, "tls") {
		cause += " (see sslmode)"
	}
	return cause, false
}

// oneLine makes one line of text, whatever a server or proxy wrote.
func oneLine(text string) string { return strings.Join(strings.Fields(storable(text, maxText)), " ") }

// quoted is what Postgres's messages quote: names of users, databases, hosts, files.
var quoted = regexp.MustCompile(`"[^"]*"|«[^»]*»|»[^«]*«|„[^“”]*[“”]|“[^”]*”`)

// Cause says on one line what was observed of the database, and may be shown to
// anyone who asks whether syncd is ready: it names no host, user, database or
// file. It is "" if there is nothing that may be shown.
func Cause(err error) string {
	cause, down := connectCause(err)
	if !down && sqlState(err) == "" {
		return ""
	}
	return quoted.ReplaceAllString(cause, "…")
}

// cures are the remedies for states of the server that do not end by themselves.
// syncd itself cancels no statement: a context that ends closes the connection.
var cures = map[string]string{
	pgerrcode.UndefinedTable: "if schema polar was dropped, restart syncd, which makes it again and reads everything",
	pgerrcode.DiskFull:       "free space on the disk that holds the database",
	pgerrcode.QueryCanceled: "syncd sets statement_timeout to 0, so a proxy, the provider or another program canceled the statement: " +
		"lift the limit for this role there (a proxy's query_timeout, or the statement_timeout that it sets)",
}

// notOwner is what is wrong where Postgres denies something that it grants to the
// owner of schema polar and what is in it.
var notOwner = &UnusableError{"schema polar exists and this role does not own it: let an administrator give it and what is in it to this role, or use the role that made it; with row-level security, policies must let this role read and write every row"}

// cured adds the cure to err, if there is one and err does not name it already.
func cured(err error) error {
	if sqlState(err) == pgerrcode.InsufficientPrivilege && !errors.Is(err, notOwner) {
		return fmt.Errorf("%w; %w", err, notOwner)
	}
	if cure := cures[sqlState(err)]; cure != "" && !strings.Contains(err.Error(), cure) {
		return fmt.Errorf("%w; %s", err, cure)
	}
	return err
}

// sqlState returns the SQLSTATE of err, or "".
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// refusesValue reports whether Postgres refused a value it was given, or one that is
// beyond a limit of the program.
func refusesValue(err error) bool {
	state := sqlState(err)
	return pgerrcode.IsDataException(state) || pgerrcode.IsProgramLimitExceeded(state)
}

// Refused reports whether Postgres refused what it was given: the same again
// would be refused again. A history that lacks the month's partition refuses
// everything, as a violated check that has no name.
func Refused(err error) bool {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == pgerrcode.CheckViolation && pgErr.ConstraintName == "" {
		return false
	}
	return refusesValue(err) || pgerrcode.IsIntegrityConstraintViolation(sqlState(err))
}

// Broken reports whether err says that the connection, and with it the lock, is
// lost or could not be made, or that the server stopped accepting writes: the
// session is of no more use, and another attempt needs a new one.
func Broken(err error) bool {
	if err == nil {
		return false
	}
	switch state := sqlState(err); {
	case state == pgerrcode.QueryCanceled: // the connection is still good
		return false
	case state != "":
		return state == pgerrcode.ReadOnlySQLTransaction || // after a failover: now a standby
			state == pgerrcode.TooManyConnections ||
			pgerrcode.IsOperatorIntervention(state) || // shut down, crashed, starting up
			pgerrcode.IsConnectionException(state)
	}
	var netErr net.Error
	return errors.As(err, &netErr) || pgconn.SafeToRetry(err) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "unexpected EOF")
}
