package cli

const (
	shortCompletion = "print a script that completes postern's verbs in a shell"
	longCompletion  = `Prints a script with which a shell completes the verbs, flags, hosts and doors of
postern: for bash, zsh, fish or PowerShell. Where packages put such scripts, and
how to load one, is each shell's own:

  bash         needs the package bash-completion; a script in
               ~/.local/share/bash-completion/completions/ is loaded by itself
  zsh          a script named _postern in a folder of $fpath
  fish         ~/.config/fish/completions/postern.fish
  powershell   postern completion powershell | Out-String | Invoke-Expression`
	exampleCompletion = `  postern completion bash >~/.local/share/bash-completion/completions/postern
  source <(postern completion zsh)`

	sayWhichShell   = "name a shell: %s"
	sayUnknownShell = "no completion for shell %q: there is one for %s"
)
