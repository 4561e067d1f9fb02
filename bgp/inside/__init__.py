"""What runs on ExaBGP's side: the launcher and our replacements inside its process, and the bridge it runs."""
