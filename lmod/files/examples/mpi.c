#include <mpi.h>
#include <stdio.h>

int main(int argc, char **argv) {
    const long steps = 20000000;
    int rank, size, length;
    char host[MPI_MAX_PROCESSOR_NAME];
    double sum = 0, pi;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &length);
    for (long i = rank; i < steps; i += size) {
        double x = (i + 0.5) / steps;
        sum += 4 / (1 + x * x) / steps;
    }
    MPI_Reduce(&sum, &pi, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    printf("process %d of %d on %s\n", rank, size, host);
    if (rank == 0)
        printf("pi is about %.6f\n", pi);
    MPI_Finalize();
    return 0;
}
