package fleet

import "context"

type actorKey struct{}

// WithActor notes who asks, as the one that checked their credential knows
// them. What is done on ctx is done in that name.
func WithActor(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, actorKey{}, name)
}

// Actor tells who asks, or "" where nobody was authenticated (the hub itself).
func Actor(ctx context.Context) string {
	name, _ := ctx.Value(actorKey{}).(string)
	return name
}
