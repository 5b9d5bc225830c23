// Functions of a complex number that the C runtime of wine 8 lacks and NumPy for Windows
// asks for, written in real arithmetic, which that runtime has. Where the real functions
// overflow, so do these. tools/windows_python.py exports math_cexp as cexp, and so on.
//
// Windows passes _Fcomplex and _Dcomplex as structs; its long double is a double.
#include <math.h>

typedef struct {
    double re, im;
} complex_double;

typedef struct {
    float re, im;
} complex_float;

static complex_double cosh_of(complex_double z) {
    return (complex_double){cosh(z.re) * cos(z.im), sinh(z.re) * sin(z.im)};
}

static complex_double sinh_of(complex_double z) {
    return (complex_double){sinh(z.re) * cos(z.im), cosh(z.re) * sin(z.im)};
}

static complex_double tanh_of(complex_double z) {
    // The quotient's parts overflow long after it has become 1.
    if (fabs(z.re) > 20) {
        return (complex_double){z.re > 0 ? 1 : -1,
                                4 * sin(z.im) * cos(z.im) * exp(-2 * fabs(z.re))};
    }
    double s = sinh(z.re), c = cos(z.im), below = s * s + c * c;
    return (complex_double){s * cosh(z.re) / below, sin(z.im) * c / below};
}

static complex_double cos_of(complex_double z) {
    return cosh_of((complex_double){-z.im, z.re});
}

static complex_double sin_of(complex_double z) {
    complex_double turned = sinh_of((complex_double){-z.im, z.re});
    return (complex_double){turned.im, -turned.re};
}

static complex_double tan_of(complex_double z) {
    complex_double turned = tanh_of((complex_double){-z.im, z.re});
    return (complex_double){turned.im, -turned.re};
}

static complex_double exp_of(complex_double z) {
    double size = exp(z.re);
    return (complex_double){size * cos(z.im), z.im == 0 ? z.im : size * sin(z.im)};
}

static double abs_of(complex_double z) { return hypot(z.re, z.im); }

static double arg_of(complex_double z) { return atan2(z.im, z.re); }

static double real_of(complex_double z) { return z.re; }

static double imag_of(complex_double z) { return z.im; }

static complex_double pow_of(complex_double z, complex_double power) {
    if (power.re == 0 && power.im == 0) {
        return (complex_double){1, 0};
    }
    if (z.re == 0 && z.im == 0) {
        return (complex_double){0, 0};
    }
    double size = log(abs_of(z)), angle = arg_of(z);
    return exp_of((complex_double){power.re * size - power.im * angle,
                                   power.re * angle + power.im * size});
}

static complex_double widen(complex_float z) { return (complex_double){z.re, z.im}; }

static complex_float narrow(complex_double z) {
    return (complex_float){(float)z.re, (float)z.im};
}

#define TO_COMPLEX(name)                                                                 \
    complex_double math_c##name(complex_double z) { return name##_of(z); }               \
    complex_double math_c##name##l(complex_double z) { return name##_of(z); }            \
    complex_float math_c##name##f(complex_float z) { return narrow(name##_of(widen(z))); }

#define TO_REAL(name)                                                                    \
    double math_c##name(complex_double z) { return name##_of(z); }                       \
    double math_c##name##l(complex_double z) { return name##_of(z); }                    \
    float math_c##name##f(complex_float z) { return (float)name##_of(widen(z)); }

TO_COMPLEX(cos)
TO_COMPLEX(cosh)
TO_COMPLEX(exp)
TO_COMPLEX(sin)
TO_COMPLEX(sinh)
TO_COMPLEX(tan)
TO_COMPLEX(tanh)
TO_REAL(abs)
TO_REAL(arg)
TO_REAL(real)
TO_REAL(imag)

complex_double math_cpow(complex_double z, complex_double power) {
    return pow_of(z, power);
}

complex_double math_cpowl(complex_double z, complex_double power) {
    return pow_of(z, power);
}

complex_float math_cpowf(complex_float z, complex_float power) {
    return narrow(pow_of(widen(z), widen(power)));
}
