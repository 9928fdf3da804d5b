"""What an installed package needs beside the method: new projects, checks of the environment, repairs."""
