"""The checks behind the exercises: a module a chapter, each check named after its exercise."""
