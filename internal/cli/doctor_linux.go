//go:build !(386 || arm || mips || mipsle)

package cli

import "postern/internal/doctor"

func init() { lookFurther = doctor.Look }
