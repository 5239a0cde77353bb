package clouds

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/aws/smithy-go"
	vault "github.com/hashicorp/vault/api"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capstan-gitops/capstan/agent/keyring/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// hints say what to do where a service does not let the agent in, or does not
// know it.
var hints = map[unit.KeyKind]string{
	unit.KeyAWS:   "the agent's AWS identity needs kms:Decrypt on the key; an agent tries again by itself",
	unit.KeyGCP:   "the agent's Google identity needs roles/cloudkms.cryptoKeyDecrypter on the key; an agent tries again by itself",
	unit.KeyAzure: "the agent's Azure identity needs the key permission Decrypt in the vault; an agent tries again by itself",
	unit.KeyVault: "the agent's Vault token needs update on <engine>/decrypt/<key>; an agent tries again by itself",
}

const finalHint = "encrypt the file anew for this key: sops updatekeys"

// explain says why a key service gave no data key, in the words of the service
// where it answered.
func explain(ctx context.Context, kind unit.KeyKind, err error) pipe.Answer {
	if bad, ok := errors.AsType[*final](err); ok {
		return pipe.Answer{Message: bad.Error(), Hint: finalHint, Final: true}
	}
	if ctx.Err() != nil {
		return pipe.Answer{Message: "no answer in time", Hint: "an agent tries again by itself; look whether the service can be reached from the agent's pod"}
	}
	message, wrong := service(err)
	if wrong {
		return pipe.Answer{Message: message, Hint: finalHint, Final: true}
	}
	return pipe.Answer{Message: message, Hint: hints[kind]}
}

// service gives the words of a key service, and whether they mean that the data
// key was not encrypted with that key. What else it refuses may be mended there.
func service(err error) (message string, wrong bool) {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code := e.ErrorCode()
		return code + ": " + e.ErrorMessage(), slices.Contains([]string{"InvalidCiphertextException", "IncorrectKeyException"}, code)
	}
	if e, ok := errors.AsType[*vault.ResponseError](err); ok {
		message = "Vault answers " + strconv.Itoa(e.StatusCode)
		if !e.RawError {
			message += ": " + strings.Join(e.Errors, "; ")
		}
		return message, e.StatusCode == http.StatusBadRequest
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return "Azure answers " + strconv.Itoa(e.StatusCode) + ": " + e.ErrorCode, e.StatusCode == http.StatusBadRequest && e.ErrorCode == "BadParameter"
	}
	if s, ok := status.FromError(err); ok {
		return s.Code().String() + ": " + s.Message(), s.Code() == codes.InvalidArgument
	}
	return err.Error(), false
}

const maxMessage = 400

// hider keeps what the agent is known by out of messages: services may repeat it.
type hider struct{ secrets []string }

func newHider() hider {
	var h hider
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		secret := slices.ContainsFunc([]string{"SECRET", "TOKEN", "PASSWORD", "CREDENTIALS", "HEADER", "ACCESS_KEY", "PROXY"}, func(part string) bool {
			return strings.Contains(strings.ToUpper(name), part)
		})
		if secret && !strings.HasSuffix(name, "_FILE") && len(value) >= 8 {
			h.secrets = append(h.secrets, value, "***")
		}
	}
	return h
}

// text is a message on one line, without secrets, of a length that can be shown.
func (h hider) text(s string) string {
	s = strings.NewReplacer(h.secrets...).Replace(s)
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "..."
	}
	if s == "" {
		return "no reason is given"
	}
	return s
}
