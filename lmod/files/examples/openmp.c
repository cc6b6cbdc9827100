#include <omp.h>
#include <stdio.h>

int main(void) {
    const long steps = 20000000;
    double sum = 0;
    int threads = 1;
#pragma omp parallel reduction(+ : sum)
    {
#pragma omp single
        threads = omp_get_num_threads();
#pragma omp for
        for (long i = 0; i < steps; i++) {
            double x = (i + 0.5) / steps;
            sum += 4 / (1 + x * x);
        }
    }
    printf("pi is about %.6f, by %d threads\n", sum / steps, threads);
    return 0;
}
