package broker

import (
	"context"
	"fmt"
	"log/slog"
)

// serverLog passes on what the embedded server says, one level quieter: what
// is worth a person's notice is the hub's to say.
type serverLog struct{ log *slog.Logger }

func (l *serverLog) say(level slog.Level, format string, a []any) {
	ctx := context.Background()
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "nats-server", "says", fmt.Sprintf(format, a...))
	}
}

func (l *serverLog) Noticef(format string, a ...any) { l.say(slog.LevelDebug, format, a) }
func (l *serverLog) Warnf(format string, a ...any)   { l.say(slog.LevelInfo, format, a) }
func (l *serverLog) Errorf(format string, a ...any)  { l.say(slog.LevelWarn, format, a) }
func (l *serverLog) Fatalf(format string, a ...any)  { l.say(slog.LevelError, format, a) }
func (l *serverLog) Debugf(format string, a ...any)  { l.say(slog.LevelDebug-4, format, a) }
func (l *serverLog) Tracef(format string, a ...any)  { l.say(slog.LevelDebug-4, format, a) }
