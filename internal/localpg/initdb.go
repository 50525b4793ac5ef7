package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// ensureData makes the data folder if there is none. initdb works in a folder
// beside it, which takes the name only once it is complete: a crash at any
// moment leaves either no data folder or a whole one.
func (s *Server) ensureData(ctx context.Context) error {
	data := s.home.path(dataName)
	if _, err := os.Stat(data); err == nil {
		return nil
	}
	began := time.Now()
	staging, err := os.MkdirTemp(s.home.dir, stagingName) // mode 0700
	if err != nil {
		return fmt.Errorf("make the data folder: %w", explain(err))
	}
	defer os.RemoveAll(staging)
	if err := s.initdb(ctx, staging); err != nil {
		return fmt.Errorf("make a database in %s: %w", s.home.dir, err)
	}
	if err := os.Rename(filepath.Join(staging, dataName), data); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	s.log.Info("database created", zap.String("data_dir", s.home.dir),
		zap.String("version", s.binaries.Version), zap.Duration("elapsed", time.Since(began)))
	return nil
}

// initdb fills staging/data. The password reaches it in a file, since arguments
// are visible to everybody on the machine.
func (s *Server) initdb(ctx context.Context, staging string) error {
	passwordFile := filepath.Join(staging, passwordName)
	if err := os.WriteFile(passwordFile, []byte(s.password+"\n"), 0o400); err != nil {
		return explain(err)
	}
	for _, path := range []string{passwordFile, staging} {
		if err := s.giveToAccount(path); err != nil {
			return err
		}
	}
	cmd := s.account.command(ctx, s.binaries.path("initdb"))
	dir, release, err := s.account.reach(cmd, staging)
	if err != nil {
		return err
	}
	defer release()
	cmd.Args = append(cmd.Args,
		"--pgdata="+dir+"/"+dataName,
		"--username="+roleName,
		"--pwfile="+dir+"/"+passwordName,
		"--auth=scram-sha-256",
		"--encoding=UTF8",
		"--no-locale", // the same order of strings on every machine
	)
	if s.opts.Settings["fsync"] == "off" {
		cmd.Args = append(cmd.Args, "--no-sync")
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return describe(fmt.Errorf("initdb: %w", err), output.Bytes())
	}
	return nil
}

func (s *Server) giveToAccount(path string) error {
	if !s.account.drop {
		return nil
	}
	if err := os.Chown(path, s.account.uid, s.account.gid); err != nil {
		return errors.Join(err, errors.New("root can't hand files to another user here: run as another user, or set database.url"))
	}
	return nil
}
