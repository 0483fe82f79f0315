"""`emt models`: what models there are, where they lie, how to get more."""

import typer

app = typer.Typer(help="List models, fetch the released ones, look into a model file.")


@app.callback(invoke_without_command=True)
def models() -> None:
    """List models, fetch the released ones, look into a model file."""
