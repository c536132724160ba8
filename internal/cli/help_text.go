package cli

const shortHelp = "say more about a verb"
