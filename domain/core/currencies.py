"""Amounts of money as text: whole minor units of a currency, with the digits that the currency has."""

_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_EXPONENTS = {currency: digits for digits, codes in _DIGITS.items() for currency in codes.split()}


def exponent(currency: str) -> int:
    """Digits of the minor unit (ISO 4217): 2 for EUR, 0 for JPY."""
    return _EXPONENTS.get(currency, 2)


def money(minor: int, currency: str) -> str:
    """Exact, such as `BRL 1,234.50`."""
    digits = exponent(currency)
    whole, rest = divmod(abs(minor), 10**digits)
    cents = f".{rest:0{digits}}" if digits else ""
    return f"{currency} {'-' if minor < 0 else ''}{whole:,}{cents}"
