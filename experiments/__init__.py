"""Studies that ship with cnnjax. They use its public interface only, as a user's file would."""
