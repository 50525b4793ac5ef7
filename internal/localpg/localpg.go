package localpg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	roleName        = "syncd" // owner of the server; a superuser of it
	defaultDatabase = "syncd"
	serviceName     = "syncd" // in the file of services

	// How long leaving may take, together well below the ten seconds in which
	// Ctrl-C has to end the program.
	leaveLockWait = 2 * time.Second
	fastStopWait  = 4 * time.Second
	killStopWait  = 2 * time.Second
	abortWait     = time.Second // after each of two signals
)

// Options say which database to run.
type Options struct {
	// DataDir is the folder of the database; it is made if missing (mode 0700).
	DataDir string
	// Database is made if missing; "" means "syncd".
	Database string
	// Log gets one line per event; nil means none.
	Log *zap.Logger
	// Settings are further Postgres settings by name (fsync=off). A server that
	// runs already keeps those it was started with.
	Settings map[string]string
	// BinDir holds the Postgres programs to use; "" means those of an installed
	// Postgres: of the version that wrote the data, else of the newest.
	BinDir string
	// IgnoreInstalled passes over Postgres installations, as if there were none.
	IgnoreInstalled bool
	// BinaryRepository is the Maven repository that Postgres is fetched from
	// when none is installed; "" means Maven Central.
	BinaryRepository string
	// CacheDir keeps what was fetched; "" means the user's cache folder, for
	// root one below /var.
	CacheDir string
}

// Server is this process's use of the database. It is safe for concurrent use.
type Server struct {
	home     home
	account  account
	binaries Binaries
	opts     Options
	log      *zap.Logger
	password string
	port     int
	users    *lock

	stopWatch context.CancelFunc
	watched   sync.WaitGroup

	closing  sync.Once
	closeErr error
}

// Start returns the database of opts.DataDir, ready to be connected to: the
// server that runs there already, or a new one. It waits, as long as ctx
// allows, for another process that is just starting or stopping it and for
// crash recovery. Errors name the cure; ErrNoPostgres means that there is no
// Postgres and none could be fetched.
func Start(ctx context.Context, opts Options) (*Server, error) {
	s, err := newServer(opts)
	if err != nil {
		return nil, err
	}
	starting, err := acquire(ctx, s.home.path(startLock), exclusive)
	if err != nil {
		return nil, fmt.Errorf("wait for another start of the database in %s: %w", s.home.dir, err)
	}
	defer starting.release()
	if s.users, err = acquire(ctx, s.home.path(usersLock), shared); err != nil {
		return nil, fmt.Errorf("use the database in %s: %w", s.home.dir, err)
	}
	if err := s.open(ctx); err != nil {
		// The start may have been cut short with the server half up: stop it,
		// unless somebody else uses it. A crash here leaves a server that the
		// next Start adopts.
		if leaveErr := s.leave(context.WithoutCancel(ctx)); leaveErr != nil {
			err = fmt.Errorf("%w; then %w", err, leaveErr)
		}
		return nil, err
	}
	watchCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.stopWatch = cancel
	s.watched.Go(func() { s.watch(watchCtx) })
	return s, nil
}

func newServer(opts Options) (*Server, error) {
	if opts.Database == "" {
		opts.Database = defaultDatabase
	}
	log := opts.Log
	if log == nil {
		log = zap.NewNop()
	}
	h, err := openHome(opts.DataDir)
	if err != nil {
		return nil, err
	}
	acct, err := accountFor(h.path(dataName))
	if err != nil {
		return nil, err
	}
	return &Server{home: h, account: acct, opts: opts, log: log}, nil
}

// open makes the server run and sets what its address is made of. The caller
// holds the start lock and the users lock.
func (s *Server) open(ctx context.Context) error {
	s.home.sweep()
	if err := s.home.ignore(); err != nil {
		return err
	}
	if err := s.home.writeServices(); err != nil {
		return err
	}
	var err error
	if s.password, err = s.home.ensurePassword(); err != nil {
		return err
	}
	if err := s.ensureRunning(ctx, s.portsToTry()); err != nil {
		return err
	}
	if err := s.ensureDatabase(ctx); err != nil {
		return err
	}
	if err := s.home.writePort(s.port); err != nil {
		return err
	}
	return s.home.writePassfile(s.port, s.password)
}

// URL is the address for pgx, password included: never log it. pgx is told to
// accept no weaker authentication, so a stranger on the port learns nothing.
func (s *Server) URL() string { return s.url(s.opts.Database) }

// url names every parameter that pgx would otherwise take from PG* variables of
// the environment or from ~/.postgresql, which are about somebody else's server.
// A service can't be unset in an address: it is set to one of ours, which says
// nothing.
func (s *Server) url(database string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(roleName, s.password),
		Host:   net.JoinHostPort(loopback, strconv.Itoa(s.port)),
		Path:   "/" + database,
		RawQuery: "sslmode=disable&sslnegotiation=&sslcertmode=allow&sslrootcert=&sslcert=&sslkey=&sslpassword=&sslsni=" +
			"&require_auth=scram-sha-256&channel_binding=disable&min_protocol_version=3.0&max_protocol_version=3.0" +
			"&target_session_attrs=any&connect_timeout=10&passfile=" +
			"&application_name=&timezone=UTC&options=" +
			"&service=" + serviceName + "&servicefile=" + percentEncode(s.home.path(servicesName), "/"),
	}
	return u.String()
}

// PSQL is the shell line that opens the database while it runs. It holds no
// password but the place of the file that does.
func (s *Server) PSQL() string {
	program := "psql"
	if _, err := exec.LookPath("psql"); err != nil {
		if own, err := exec.LookPath(filepath.Join(s.binaries.Dir, "psql")); err == nil {
			program = shellQuote(own)
		}
	}
	return fmt.Sprintf(`%s "postgresql://%s@%s:%d/%s?passfile=%s"`, program, roleName, loopback, s.port,
		percentEncode(s.opts.Database, ""), percentEncode(s.home.path(passfileName), "/"))
}

// percentEncode keeps letters, digits, "-", "_", "." and the bytes of keep.
// The result stands for itself within double quotes in every shell, and in a
// libpq address, which knows %XX but not "+".
func percentEncode(s, keep string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_."+keep, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Close ends this process's use, and stops the server if nobody else uses it.
// It takes at most about eight seconds; when ctx ends first the server has been
// told to stop and finishes alone. Calls after the first return its result.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() {
		s.stopWatch()
		s.watched.Wait()
		lockCtx, cancel := context.WithTimeout(ctx, leaveLockWait)
		defer cancel()
		starting, err := acquire(lockCtx, s.home.path(startLock), exclusive)
		if err != nil {
			// Somebody is starting right now and will need the server: it is
			// theirs to stop.
			s.users.release()
			return
		}
		defer starting.release()
		s.closeErr = s.leave(ctx)
	})
	return s.closeErr
}

// leave gives up the use and stops the server if it was the last. The caller
// holds the start lock, so nobody can begin a use meanwhile.
func (s *Server) leave(ctx context.Context) error {
	defer s.users.release()
	last, err := s.users.tryUpgrade()
	if err != nil {
		return fmt.Errorf("leave the database in %s: %w", s.home.dir, err)
	}
	if !last {
		return nil
	}
	// Once the server is gone its port is free to anybody. The password file
	// names that port, so it goes first.
	return errors.Join(s.home.removePassfile(), s.stopPostmaster(ctx))
}
