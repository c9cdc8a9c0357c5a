package pgtest

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// serverUser is the user and group that the server runs as if this process is
// root, and -1 otherwise.
func serverUser() (uid, gid int, err error) {
	if os.Getuid() != 0 {
		return -1, -1, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find an unprivileged user for the server (postgres or nobody): %w", err)
	}
	if uid, err = strconv.Atoi(u.Uid); err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read ids of user %s: %w", u.Username, err)
	}
	return uid, gid, nil
}

// chown gives path to the user that runs the server.
func chown(path string) error {
	uid, gid, err := serverUser()
	if err != nil || uid < 0 {
		return err
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return fmt.Errorf("give the server its directory: %w", err)
	}
	return nil
}
